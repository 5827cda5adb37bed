//! Names, looked up by the system's resolver, on the threads of [`blocking`].
//!
//! [`blocking`]: crate::blocking

use crate::blocking;
use crate::throttle::Throttle;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

/// How long the resolver may take before the known addresses are used: less than connecting may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names whose addresses are kept. A configuration has fewer.
const MOST_KNOWN: usize = 256;

type Answer = Result<Vec<SocketAddr>, String>;

/// Who waits for the answer about each name that is being looked up.
static ASKED: Mutex<BTreeMap<String, Vec<oneshot::Sender<Answer>>>> = Mutex::new(BTreeMap::new());

/// What was found last of each name, by [`Names`].
static KNOWN: Mutex<BTreeMap<String, Known>> = Mutex::new(BTreeMap::new());

struct Known {
    addresses: Vec<SocketAddr>,
    failure_log: Throttle,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that is being looked up. Dropped without an answer, it leaves those that wait for one with an error.
struct Question(String);

impl Question {
    /// Asks the system, and answers all who wait by then.
    fn ask(mut self) {
        let found = (self.0.as_str(), 0).to_socket_addrs();
        let answer: Answer = found.map(Iterator::collect).map_err(|error| error.to_string());
        // The next question about the same name is another one's.
        let host = std::mem::take(&mut self.0);
        let waiting = locked(&ASKED).remove(&host).unwrap_or_default();
        for reply in waiting {
            // One that waits no longer needs no answer.
            let _ = reply.send(answer.clone());
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            locked(&ASKED).remove(&self.0);
        }
    }
}

/// The addresses of a host. Of those that ask for the same name, one asks the system: a resolver that hangs
/// takes one thread a name.
///
/// # Errors
/// The resolver fails, or there is no thread to ask it.
pub(crate) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (reply, answer) = oneshot::channel();
    let question = {
        let mut asked = locked(&ASKED);
        if let Some(waiting) = asked.get_mut(host) {
            waiting.retain(|reply| !reply.is_closed());
            waiting.push(reply);
            None
        } else {
            asked.insert(host.to_owned(), vec![reply]);
            Some(Question(host.to_owned()))
        }
    };
    if let Some(question) = question {
        blocking::submit(move || question.ask()).map_err(io::Error::other)?;
    }
    let answer = answer.await.map_err(|_| io::Error::other("the resolver gave no answer"))?;
    let mut addresses = answer.map_err(io::Error::other)?;
    addresses.iter_mut().for_each(|address| address.set_port(port));
    Ok(addresses)
}

/// What the library that asks issuers finds names with. What was found last stays in use while the resolver
/// fails, or there is no thread or file to ask it with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = known_or_found(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A connection to the first address of a host that can be connected to.
///
/// # Errors
/// There is none, or none can be connected to.
pub(crate) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the name has no address");
    for mut address in known_or_found(host).await? {
        address.set_port(port);
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn known_or_found(host: &str) -> io::Result<Vec<SocketAddr>> {
    let asking = look_up(host, 0);
    let found = if locked(&KNOWN).contains_key(host) {
        let late = |_| Err(io::Error::other("the resolver gave no answer in time"));
        timeout(PATIENCE, asking).await.unwrap_or_else(late)
    } else {
        // There is nothing to fall back on; the caller knows for how long it may take.
        asking.await
    };
    let mut known = locked(&KNOWN);
    match found {
        Ok(addresses) if addresses.is_empty() => Err(io::Error::other("the name has no address")),
        Ok(addresses) => {
            if known.len() < MOST_KNOWN || known.contains_key(host) {
                let fresh = Known { addresses: addresses.clone(), failure_log: Throttle::new() };
                known.insert(host.to_owned(), fresh);
            }
            Ok(addresses)
        }
        Err(error) => {
            let known = known.get(host).ok_or(error);
            known.map(|known| known.used_on(host))
        }
    }
}

impl Known {
    fn used_on(&self, host: &str) -> Vec<SocketAddr> {
        if self.failure_log.try_pass() {
            warn!(host, "Using the known addresses on: the resolver fails.");
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
        assert!(locked(&ASKED).is_empty() || !locked(&ASKED).contains_key("no-such-host.invalid"));
    }

    #[tokio::test]
    async fn known_addresses_outlive_a_resolver_that_fails() {
        const HOST: &str = "known.invalid";
        assert!(known_or_found(HOST).await.is_err());
        let addresses = vec![SocketAddr::from(([127, 0, 0, 7], 0))];
        let known = Known { addresses: addresses.clone(), failure_log: Throttle::new() };
        locked(&KNOWN).insert(HOST.to_owned(), known);
        assert_eq!(known_or_found(HOST).await.unwrap(), addresses);
        assert_eq!(
            known_or_found("localhost").await.unwrap(),
            look_up("localhost", 0).await.unwrap()
        );
    }

    #[tokio::test]
    async fn of_many_who_ask_at_once_all_are_answered() {
        for _ in 0..50 {
            let asking = (0..20).map(|_| look_up("localhost", 1));
            for found in futures_util::future::join_all(asking).await {
                assert!(!found.unwrap().is_empty());
            }
        }
    }
}
