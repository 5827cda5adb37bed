//! pingora's part of each worker: its pool of connections to upstreams, and the trust anchors of new ones.

use crate::proxy::Proxy;
use crate::proxy::attempts;
use crate::trust::SystemAnchors;
use arc_swap::ArcSwap;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// One worker's.
pub(super) type Engine = ArcSwap<HttpProxy<Proxy>>;

/// Those of all workers.
#[derive(Clone)]
pub(crate) struct Engines {
    pub(super) proxy: Proxy,
    pub(super) engines: Arc<[Arc<Engine>]>,
    /// Idle upstream connections that each keeps.
    pooled: usize,
}

impl Engines {
    /// For so many workers, each of which keeps so many idle connections to upstreams.
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

    /// Their successors, which trust these anchors.
    pub(crate) fn successors(&self, anchors: &SystemAnchors) -> io::Result<Successors> {
        build(self.engines.len(), self.pooled, &self.proxy, anchors).map(Successors)
    }

    /// From now on, requests go over connections of these. Those that are under way stay where they are.
    pub(crate) fn replace(&self, successors: Successors) {
        for (engine, successor) in self.engines.iter().zip(successors.0) {
            engine.store(Arc::new(successor));
        }
    }
}

/// Engines that are yet to take the others' place.
pub(crate) struct Successors(Vec<HttpProxy<Proxy>>);

/// The one place where pingora's settings are made.
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
    // pingora panics when it can't open the file, for which there may be no descriptor left.
    let build = || (0..count).map(|_| http_proxy(&conf, proxy.clone())).collect();
    catch_unwind(AssertUnwindSafe(build))
        .map_err(|_| io::Error::other("the trust anchors cannot be handed to pingora"))
}
