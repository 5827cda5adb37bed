//! pingora's proxy of each worker, with its pool of upstream connections and its trust anchors.

use crate::proxy::Proxy;
use crate::proxy::attempts;
use crate::trust::SystemAnchors;
use arc_swap::ArcSwap;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Proxy of one worker. A reload of the trust anchors replaces it.
pub(super) type Engine = ArcSwap<HttpProxy<Proxy>>;

/// Proxies of all workers.
#[derive(Clone)]
pub(crate) struct Engines {
    pub(super) proxy: Proxy,
    pub(super) engines: Arc<[Arc<Engine>]>,
    /// The largest number of idle upstream connections of each worker.
    pooled: usize,
}

impl Engines {
    /// Creates the proxies of `count` workers, each with a pool of at most `pooled` idle upstream
    /// connections.
    pub(crate) fn new(
        count: usize,
        pooled: usize,
        proxy: Proxy,
        anchors: &SystemAnchors,
    ) -> io::Result<Self> {
        let engines = build(count, pooled, &proxy, anchors)?;
        let engines = engines.into_iter().map(|engine| Arc::new(Engine::from_pointee(engine)));
        Ok(Self { engines: engines.collect(), proxy, pooled })
    }

    /// Returns proxies that trust these anchors, to replace the ones in use.
    pub(crate) fn successors(&self, anchors: &SystemAnchors) -> io::Result<Successors> {
        build(self.engines.len(), self.pooled, &self.proxy, anchors).map(Successors)
    }

    /// Replaces the proxies. Requests in flight stay on the connections that they use.
    pub(crate) fn replace(&self, successors: Successors) {
        for (engine, successor) in self.engines.iter().zip(successors.0) {
            engine.store(Arc::new(successor));
        }
    }
}

/// Proxies that are not in use yet.
pub(crate) struct Successors(Vec<HttpProxy<Proxy>>);

/// Builds the proxies. pingora is configured here only.
fn build(
    count: usize,
    pooled: usize,
    proxy: &Proxy,
    anchors: &SystemAnchors,
) -> io::Result<Vec<HttpProxy<Proxy>>> {
    let file = anchors.to_file()?;
    let path = file.path()?;
    let conf = Arc::new(ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: pooled,
        max_retries: attempts::MOST,
        ca_file: path,
        ..ServerConf::default()
    });
    // pingora panics if it cannot open the file, for which no descriptor may be left.
    let build = || (0..count).map(|_| http_proxy(&conf, proxy.clone())).collect();
    catch_unwind(AssertUnwindSafe(build))
        .map_err(|_| io::Error::other("pingora cannot load the trust anchors"))
}
