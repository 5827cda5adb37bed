//! nginx with HTTP/2, which ends each connection by GOAWAY after a few requests.

use super::debian_server::Running;
use crate::support::issuer;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Authority;
use crate::support::{free_address, http};
use futures_util::future::join_all;
use std::path::Path;

/// The number of requests on one connection.
const A_CONNECTION: usize = 20;
const LARGE: usize = 20 << 20;

async fn nginx(folder: &Path, authority: &Authority) -> Running {
    let address = free_address();
    authority.write_certificate(&folder.join("server.crt"), &folder.join("server.key"));
    std::fs::write(folder.join("large"), vec![b'x'; LARGE]).unwrap();
    let config = format!(
        "daemon off; pid {folder}/nginx.pid; error_log stderr notice;
events {{}}
http {{
  access_log {folder}/access.log;
  log_format short '$server_protocol $request_method $status';
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen {address} ssl http2;
    ssl_certificate {folder}/server.crt; ssl_certificate_key {folder}/server.key;
    keepalive_requests {A_CONNECTION}; http2_max_concurrent_streams 8;
    access_log {folder}/access.log short;
    root {folder};
    location /free/small {{ return 200 fine; }}
    location /free/ {{ alias {folder}/; }}
  }}
}}
",
        folder = folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let arguments = ["-p", folder.to_str().unwrap(), "-e", "stderr", "-c", file.to_str().unwrap()];
    Running::start(folder, "nginx", &arguments, address).await
}

#[tokio::test]
#[ignore = "needs nginx; make test installs it and runs this"]
async fn goaways_and_limits_of_nginx_cost_no_caller_an_error() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let nginx = nginx(folder.path(), &authority).await;
    let ca = authority.write_pem(folder.path());
    let issuer = issuer::steady().await;
    let config = issuer
        .configuration(&format!("https://localhost:{}", nginx.address.port()))
        .upstream("ca_file", ca)
        .upstream("http2", true);
    let sidecar = Sidecar::ready(&config).await;
    let caller = async |n: usize| {
        let client = http();
        for round in 0..60 {
            let method = if (n + round).is_multiple_of(3) { "POST" } else { "GET" };
            let request =
                client.request(method.parse().unwrap(), format!("{}/free/small", sidecar.url));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{method} {n} {round}: {}", nginx.log());
            assert_eq!(answer.text().await.unwrap(), "fine");
        }
    };
    join_all((0..24).map(caller)).await;
    let large = sidecar.get("/free/large").await.bytes().await.unwrap();
    assert!(large.len() == LARGE && large.iter().all(|byte| *byte == b'x'));
    let log = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    assert_eq!(log.lines().filter(|line| *line == "HTTP/2.0 GET 200").count(), 24 * 40 + 1);
    assert_eq!(log.lines().filter(|line| *line == "HTTP/2.0 POST 200").count(), 24 * 20);
}
