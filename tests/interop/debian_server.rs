//! A server from a Debian package in a process of its own, on loopback.

use crate::support::eventually;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The search path with the folders of servers.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) struct Running {
    pub(super) address: SocketAddr,
    log: PathBuf,
    _child: Child,
}

impl Running {
    /// Starts a program and waits until it listens at this address.
    pub(super) async fn start(
        folder: &Path,
        program: &str,
        arguments: &[&str],
        address: SocketAddr,
    ) -> Self {
        let log = folder.join("server.log");
        let output = std::fs::File::create(&log).unwrap();
        let child = Command::new(program)
            .env("PATH", PATH)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error} (scripts/setup.sh --with-servers)"));
        eventually("the server listens", async || TcpStream::connect(address).await.is_ok()).await;
        Self { address, log, _child: child }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}
