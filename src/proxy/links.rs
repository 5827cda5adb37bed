//! Link rewriting: the tenant's absolute URLs in responses become the sidecar's, and back.
//!
//! A caller that follows one of the tenant's own links leaves the sidecar, gets a login page, and
//! has lost its data after the first page. What is rewritten is a closed list: headers
//! (`header_kind`), and in bodies only what [`json`] and [`xml`] know to be links. Business data
//! stays byte for byte.

pub(super) mod body;
mod embedded_header;
mod entity_tag;
mod format;
mod header;
mod header_kind;
mod header_value;
mod held_part;
mod inflate;
pub mod json;
mod media_type;
mod multipart;
mod multipart_batch_request;
mod multipart_batch_response;
pub mod origin;
mod own_origin;
mod plan;
mod request;
mod response;
mod rewrite;
pub mod xml;

pub(crate) use body::BodyRewriter;
pub(super) use header::{DIGESTS, restored_tags};
pub(super) use plan::LinkPlan;
pub(super) use request::RequestRewriter;
