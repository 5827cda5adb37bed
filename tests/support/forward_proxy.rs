//! A forward proxy that connects to the requested port on loopback and records every request.

use super::accepting;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

pub(crate) struct ForwardProxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<Option<String>>>,
    greeting: Arc<Mutex<String>>,
    _task: AbortOnDropHandle<()>,
}

/// A CONNECT request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
}

impl ForwardProxy {
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    pub(crate) async fn start_at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer) = <(Arc<Mutex<Vec<_>>>, Arc<Mutex<Option<String>>>)>::default();
        let greeting = "HTTP/1.1 200 Connection established\r\n\r\n".to_owned();
        let greeting = Arc::new(Mutex::new(greeting));
        let (seen, said, greets) = (asked.clone(), answer.clone(), greeting.clone());
        let task = accepting(listener, move |stream| {
            let (seen, said, greets) = (seen.clone(), said.clone(), greets.clone());
            async move { serve(stream, &seen, &said, &greets).await }
        });
        Self { address, asked, answer, greeting, _task: task }
    }

    /// The requests in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Sets the response that opens a tunnel.
    pub(crate) fn greet(&self, greeting: &str) {
        greeting.clone_into(&mut self.greeting.lock().unwrap());
    }

    /// Sets a response to all requests. No more tunnels are opened.
    pub(crate) fn answer(&self, answer: &str) {
        *self.answer.lock().unwrap() = Some(answer.to_owned());
    }
}

async fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    said: &Mutex<Option<String>>,
    greets: &Mutex<String>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut header = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        match line.trim_end() {
            "" => break,
            line => header.push(line.to_owned()),
        }
    }
    let target = header[0].strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1")?.to_owned();
    let find = |line: &String| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
    };
    let authorization = header.iter().find_map(find);
    let port: u16 = target.rsplit_once(':')?.1.parse().ok()?;
    seen.lock().unwrap().push(Asked { target, authorization });
    let said = said.lock().unwrap().clone();
    if let Some(said) = said {
        stream.write_all(said.as_bytes()).await.ok()?;
        return Some(());
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let greeting = greets.lock().unwrap().clone();
    stream.write_all(greeting.as_bytes()).await.ok()?;
    copy_bidirectional(&mut stream, &mut server).await.ok()?;
    Some(())
}
