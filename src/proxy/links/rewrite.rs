//! What the rewriters of bodies have in common.

/// Rewrites the URLs of one body while it streams. The default rewriter changes nothing.
pub(crate) trait Rewrite: Default {
    /// Takes the next bytes and appends what is decided to `output`.
    fn push(&mut self, input: &[u8], output: &mut Vec<u8>);

    /// Ends the body: appends what is held back to `output`.
    fn finish(&mut self, output: &mut Vec<u8>);

    /// Whether the body passes unchanged, whatever it holds.
    fn is_none(&self) -> bool;

    /// How many bytes of parts are held. What JSON and XML hold is too little to count.
    fn held(&self) -> usize;

    /// How many URLs were changed so far.
    fn rewritten(&self) -> u64;
}
