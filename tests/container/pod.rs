//! The other containers of the test pod, in one binary without a shell. `tenant` is the demo
//! tenant. `app [fast]` is a legacy tool that reads OData and reports on its container. `ask PORT
//! METHOD TARGET [JSON]` prints the response of a server in the pod.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "it has nothing else to do")]
#![allow(missing_docs)]

use bearerd::demo::{DemoFaults, Tenant, TenantOptions};
use bearerd::http_client::set_up_tls;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Fixed ports, which the pod's configuration names.
const ISSUER: u16 = 9001;
const TENANT: u16 = 9002;
const CERT_ISSUER: u16 = 9003;
const CONTROL: u16 = 9004;
/// The file in which the tenant leaves its authority's certificate for the sidecar.
const ANCHOR: &str = "/shared/ca.pem";
const SALES: &str = "/api/v1/datasphere/consumption/relational/DEMO/SALES/SALES?$top=1";
/// The lifetime of tokens in seconds. It is short, so that the test sees several.
const LIFETIME: u64 = 6;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["tenant"] => tenant(),
        ["app"] => app(Duration::from_millis(100)),
        ["app", "fast"] => app(Duration::from_millis(2)),
        ["ask", port, method, target] => print(port, method, target, ""),
        ["ask", port, method, target, json] => print(port, method, target, json),
        _ => panic!("tenant, app, app fast or ask, not {arguments:?}"),
    }
}

fn print(port: &str, method: &str, target: &str, json: &str) {
    let answer = ask(port.parse().unwrap(), method, target, json).unwrap();
    println!("{}", answer.split_once("\r\n\r\n").unwrap().1);
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn tenant() {
    set_up_tls();
    let options = TenantOptions {
        issuer: local(ISSUER),
        cert_issuer: local(CERT_ISSUER),
        tenant: local(TENANT),
        control: local(CONTROL),
        ..TenantOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tenant = Tenant::start(options).await.unwrap();
        tenant.set_faults(DemoFaults { token_lifetime: LIFETIME, ..DemoFaults::default() });
        std::fs::write(ANCHOR, tenant.ca_pem()).unwrap();
        println!("tenant");
        std::future::pending::<()>().await;
    });
}

/// Prints a line for each response, without end.
fn app(pause: Duration) {
    println!("app {}", circumstances());
    loop {
        let result = match ask(8080, "GET", SALES, "") {
            Ok(answer) => answer.split(' ').nth(1).unwrap_or("?").to_owned(),
            Err(error) => error.to_string(),
        };
        println!("read {result}");
        std::thread::sleep(pause);
    }
}

/// The user and the privileges of this process.
fn circumstances() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(",")
    };
    let is_read_only = std::fs::write("/probe", "x").is_err();
    let has_shell = Path::new("/bin/sh").exists();
    format!(
        "uid={} caps={} no_new_privs={} read_only={is_read_only} shell={has_shell}",
        line("Uid:"),
        line("CapBnd:"),
        line("NoNewPrivs:")
    )
}

fn ask(port: u16, method: &str, target: &str, json: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(local(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
