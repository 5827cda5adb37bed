//! An upstream with what was read for it.

use super::error::AppError;
use super::transport_inputs::TransportInputs;
use crate::config;
use crate::proxy::upstream::UpstreamHandle;
use std::sync::Arc;

/// An upstream, ready for requests.
#[derive(Clone)]
pub(super) struct PreparedUpstream {
    pub(super) config: Arc<config::Upstream>,
    pub(super) service: Arc<UpstreamHandle>,
}

impl PreparedUpstream {
    /// Prepares an upstream, unless the same upstream is in use in `before`. A changed one with the
    /// same name and origin goes on counting the requests in flight.
    pub(super) fn new(
        config: &Arc<config::Upstream>,
        inputs: &TransportInputs,
        before: Option<(&[Self], &TransportInputs)>,
    ) -> Result<Self, AppError> {
        let is_same = |known: &&Self| {
            known.config.name == config.name && known.config.origin == config.origin
        };
        let predecessor = before.and_then(|(known, _)| known.iter().find(is_same));
        if let (Some(known), Some((_, before))) = (predecessor, before)
            && known.config == *config
            && inputs.match_for(before, config.files())
        {
            return Ok(Self { config: config.clone(), service: known.service.clone() });
        }
        let service = UpstreamHandle::new(config)
            .map_err(|source| AppError::Upstream { upstream: config.name.clone(), source })?
            .succeeding(predecessor.map(|known| &*known.service));
        Ok(Self { config: config.clone(), service: Arc::new(service) })
    }
}
