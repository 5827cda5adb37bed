//! pingora with bearerd's settings and nothing else: a fixed upstream and a fixed token. The
//! difference to it is the cost of bearerd's own work.

use async_trait::async_trait;
use bearerd::trust;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST};
use pingora::http::RequestHeader;
use pingora::listeners::ListenerConfig;
use pingora::modules::http::HttpModules;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::protocols::tls::CaType;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// The values of `src/server.rs`.
const UPSTREAM_POOL: usize = 1024;

#[derive(Clone)]
struct Minimal {
    peer: HttpPeer,
    authorization: HeaderValue,
    host: String,
}

#[async_trait]
impl ProxyHttp for Minimal {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        _context: &mut (),
    ) -> pingora::Result<()> {
        request.insert_header(AUTHORIZATION, &self.authorization)?;
        request.insert_header(HOST, &self.host)
    }
}

/// Runs the proxy until it is killed.
pub(crate) fn run(configuration: &Path) -> ! {
    pingora::tls::install_default_crypto_provider();
    let text = std::fs::read_to_string(configuration).unwrap();
    let values: Value = serde_json::from_str(&text).unwrap();
    let text = |name: &str| values[name].as_str().unwrap();
    let upstream: std::net::SocketAddr = text("upstream").parse().unwrap();
    let mut peer = HttpPeer::new(upstream, true, "localhost".to_owned());
    let anchors = trust::read_pem(Path::new(text("ca"))).unwrap().into_iter();
    let anchors: Box<CaType> =
        anchors.map(|anchor| WrappedX509::new(anchor.to_vec(), parse_x509)).collect();
    peer.options.ca = Some(anchors.into());
    peer.options.connection_timeout = Some(Duration::from_secs(5));
    peer.options.total_connection_timeout = Some(Duration::from_secs(10));
    peer.options.read_timeout = Some(Duration::from_secs(300));
    peer.options.write_timeout = Some(Duration::from_secs(60));
    peer.options.idle_timeout = Some(Duration::from_secs(50));
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", text("token"))).unwrap();
    authorization.set_sensitive(true);
    let minimal = Minimal { peer, authorization, host: format!("localhost:{}", upstream.port()) };

    let conf = ServerConf { upstream_keepalive_pool_size: UPSTREAM_POOL, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    // One service with one thread for each worker is cheaper than one service with several threads.
    for _ in 0..values["workers"].as_u64().unwrap() {
        let mut service = http_proxy_service(&server.configuration, minimal.clone());
        let buffers = L4BufferSettings::new(4096, 4096);
        service.add_listener(ListenerConfig::tcp(text("listen")).l4_buffer(buffers));
        server.add_service(service);
    }
    server.run_forever()
}
