//! Lookups of host names by the system's resolver, on the threads of [`blocking`].
//!
//! [`blocking`]: crate::blocking

use crate::blocking;
use crate::throttle::Throttle;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

/// Time after which known addresses are used instead of waiting for the resolver. It is less than a
/// connection may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that the first lookup of a name may take. It is less than a connection may take, so that
/// the reason is known.
const FIRST_TIMEOUT: Duration = Duration::from_millis(4500);
/// The largest number of names whose addresses are kept. A configuration has fewer.
const MOST_KNOWN: usize = 256;

type Answer = Result<Vec<SocketAddr>, UnresolvedName>;

/// A name without an address, with the system's message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnresolvedName(String);

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DnsFailure {
    /// The name does not exist, or has no address.
    Unknown,
    /// No DNS server answers.
    Silent,
    /// Something else, as the message says.
    Other,
}

impl UnresolvedName {
    fn without_address() -> Self {
        Self("the name has no address".to_owned())
    }

    /// Why the name has no address. The standard library passes on only the system's text.
    pub(crate) fn failure(&self) -> DnsFailure {
        let has = |parts: &[&str]| parts.iter().any(|part| self.0.contains(part));
        if has(&["Temporary failure in name resolution", "the resolver gave no answer"]) {
            DnsFailure::Silent
        } else if has(&["not known", "No address associated", "the name has no address"]) {
            DnsFailure::Unknown
        } else {
            DnsFailure::Other
        }
    }
}

/// Callers that wait for each name that is being looked up.
static WAITING: Mutex<BTreeMap<String, Vec<oneshot::Sender<Answer>>>> = Mutex::new(BTreeMap::new());

/// The latest addresses of each name.
static KNOWN: Mutex<BTreeMap<String, Known>> = Mutex::new(BTreeMap::new());

struct Known {
    addresses: Vec<SocketAddr>,
    failure_log: Throttle,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lookup of a name. If it is dropped without an answer, its callers get an error.
struct LookUp(String);

impl LookUp {
    /// Calls the system's resolver, and answers all callers that wait by then.
    fn run(mut self) {
        let found = (self.0.as_str(), 0).to_socket_addrs();
        let answer: Answer =
            found.map(Iterator::collect).map_err(|error| UnresolvedName(error.to_string()));
        // Taken, so that the drop does not remove a later lookup of the same name.
        let host = std::mem::take(&mut self.0);
        let waiting = locked(&WAITING).remove(&host).unwrap_or_default();
        for reply in waiting {
            // Fails if the caller no longer waits.
            let _ = reply.send(answer.clone());
        }
    }
}

impl Drop for LookUp {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            locked(&WAITING).remove(&self.0);
        }
    }
}

/// Looks up the addresses of a host. Callers that look up the same name at once share one call of
/// the resolver, so that a resolver that hangs takes one thread per name.
///
/// # Errors
/// The resolver fails, or there is no thread to call it.
pub(crate) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (reply, answer) = oneshot::channel();
    let new = {
        let mut asked = locked(&WAITING);
        if let Some(waiting) = asked.get_mut(host) {
            waiting.retain(|reply| !reply.is_closed());
            waiting.push(reply);
            None
        } else {
            asked.insert(host.to_owned(), vec![reply]);
            Some(LookUp(host.to_owned()))
        }
    };
    if let Some(new) = new {
        blocking::submit(move || new.run()).map_err(io::Error::other)?;
    }
    let answer = answer.await.map_err(|_| no_answer("the resolver gave no answer"))?;
    let mut addresses = answer.map_err(io::Error::other)?;
    addresses.iter_mut().for_each(|address| address.set_port(port));
    Ok(addresses)
}

/// Looks up the addresses of several hosts, in their order. A host that can't be resolved is left
/// out.
///
/// # Errors
/// No host can be resolved.
pub(crate) async fn look_up_all(hosts: &[String], port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut failure = None;
    let mut all = Vec::new();
    for host in hosts {
        match look_up(host, port).await {
            Ok(found) => all.extend(found),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if all.is_empty() => Err(error),
        _ => Ok(all),
    }
}

/// Resolver for the HTTP client. The latest addresses of a name stay in use while the system's
/// resolver fails, or cannot be called for lack of threads or files.
#[derive(Clone, Debug, Default)]
pub(crate) struct SystemResolver {
    /// Hosts whose addresses are those of every name, if there are some.
    instead: Arc<[String]>,
}

impl SystemResolver {
    /// Creates a resolver that looks up these hosts instead of the name that is asked for.
    pub(crate) fn instead(hosts: &[String]) -> Self {
        Self { instead: hosts.into() }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let instead = self.instead.clone();
        Box::pin(async move {
            let addresses = match instead.is_empty() {
                true => resolve_or_keep(name.as_str()).await?,
                false => timeout(FIRST_TIMEOUT, look_up_all(&instead, 0))
                    .await
                    .unwrap_or_else(|_| Err(no_answer("the resolver gave no answer in time")))?,
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Connects to the first address of a host that accepts a connection.
///
/// # Errors
/// The host has no address, or none accepts a connection.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::other(UnresolvedName::without_address());
    for mut address in resolve_or_keep(host).await? {
        address.set_port(port);
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn no_answer(message: &str) -> io::Error {
    io::Error::other(UnresolvedName(message.to_owned()))
}

async fn resolve_or_keep(host: &str) -> io::Result<Vec<SocketAddr>> {
    let asking = look_up(host, 0);
    let late = |_| Err(no_answer("the resolver gave no answer in time"));
    let found = if locked(&KNOWN).contains_key(host) {
        timeout(RESOLVE_TIMEOUT, asking).await.unwrap_or_else(late)
    } else {
        // There is nothing to fall back on.
        timeout(FIRST_TIMEOUT, asking).await.unwrap_or_else(late)
    };
    let mut known = locked(&KNOWN);
    match found {
        Ok(addresses) if addresses.is_empty() => {
            Err(io::Error::other(UnresolvedName::without_address()))
        }
        Ok(addresses) => {
            if known.len() < MOST_KNOWN || known.contains_key(host) {
                let fresh = Known { addresses: addresses.clone(), failure_log: Throttle::new() };
                known.insert(host.to_owned(), fresh);
            }
            Ok(addresses)
        }
        Err(error) => {
            let known = known.get(host).ok_or(error);
            known.map(|known| known.keep(host))
        }
    }
}

impl Known {
    fn keep(&self, host: &str) -> Vec<SocketAddr> {
        if self.failure_log.try_pass() {
            warn!(host, "The name lookup failed; still using the known addresses.");
        }
        self.addresses.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_taken_as_they_are_and_names_are_looked_up() {
        assert_eq!(look_up("127.0.0.7", 9).await.unwrap(), [([127, 0, 0, 7], 9).into()]);
        assert_eq!(look_up("::1", 9).await.unwrap(), ["[::1]:9".parse().unwrap()]);
        let found = look_up("localhost", 9).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 9));
        assert!(!found.is_empty());
        assert!(look_up("no-such-host.invalid", 9).await.is_err());
        assert!(
            locked(&WAITING).is_empty() || !locked(&WAITING).contains_key("no-such-host.invalid")
        );
    }

    #[tokio::test]
    async fn known_addresses_outlive_a_resolver_that_fails() {
        const HOST: &str = "known.invalid";
        assert!(resolve_or_keep(HOST).await.is_err());
        let addresses = vec![SocketAddr::from(([127, 0, 0, 7], 0))];
        let known = Known { addresses: addresses.clone(), failure_log: Throttle::new() };
        locked(&KNOWN).insert(HOST.to_owned(), known);
        assert_eq!(resolve_or_keep(HOST).await.unwrap(), addresses);
        assert_eq!(
            resolve_or_keep("localhost").await.unwrap(),
            look_up("localhost", 0).await.unwrap()
        );
    }

    #[tokio::test]
    async fn of_many_callers_at_once_all_are_answered() {
        for _ in 0..50 {
            let asking = (0..20).map(|_| look_up("localhost", 1));
            for found in futures_util::future::join_all(asking).await {
                assert!(!found.unwrap().is_empty());
            }
        }
    }
}
