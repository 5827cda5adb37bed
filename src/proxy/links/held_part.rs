//! A part of a multipart body that is held until its end. Pure.

use super::embedded_header::{with_length, without_length};

/// The largest part that is held.
pub(super) const LARGEST_PART: usize = 64 * 1024;
/// The largest size that a held part may grow to, with the parts held within it. Links seldom grow
/// to twice their length.
pub(super) const LARGEST_CHANGED: usize = 2 * LARGEST_PART;

/// A part with the complete header of its message.
#[derive(Debug)]
pub(super) struct HeldPart {
    /// The part's own header.
    pub(super) header: Vec<u8>,
    /// The empty lines before the message.
    pub(super) lead: Vec<u8>,
    /// The message's header as it came.
    pub(super) head: Vec<u8>,
    /// The message's header as it is passed on, if it changes.
    pub(super) changed_head: Option<Vec<u8>>,
    /// How many links changed in the header.
    pub(super) count: u64,
    /// How many bytes of the body were taken.
    pub(super) taken: usize,
    /// The rewritten body so far.
    pub(super) made: Vec<u8>,
}

impl HeldPart {
    /// The length of the part so far.
    pub(super) fn length(&self) -> usize {
        self.header.len() + self.lead.len() + self.head.len() + self.taken
    }

    /// The length of the rewritten part so far.
    pub(super) fn changed_length(&self) -> usize {
        let head = self.changed_head.as_ref().unwrap_or(&self.head);
        self.header.len() + head.len() + self.made.len()
    }

    /// Writes the whole part, with correct lengths. `links` is how many changed in the body.
    pub(super) fn write(mut self, links: u64, output: &mut Vec<u8>) {
        let has_changed = self.changed_head.is_some()
            || self.count + links > 0
            // Lengths that are left out, and tags that become weak, are not counted as links.
            || self.made.len() != self.taken;
        let head = self.changed_head.unwrap_or_else(|| self.head.clone());
        let (header, head) = if has_changed {
            let head = with_length(&head, self.taken, self.made.len());
            let before = self.head.len() + self.taken;
            (with_length(&self.header, before, head.len() + self.made.len()), head)
        } else {
            (self.header, head)
        };
        output.reserve(header.len() + self.lead.len() + head.len() + self.made.len());
        output.extend(header);
        output.append(&mut self.lead);
        output.extend(head);
        output.append(&mut self.made);
    }

    /// Writes the beginning of a part that is no longer held. The length of its body is kept if
    /// nothing changes the body.
    pub(super) fn write_beginning(mut self, keeps_length: bool, output: &mut Vec<u8>) {
        let head = self.changed_head.unwrap_or(self.head);
        output.extend(without_length(&self.header));
        output.append(&mut self.lead);
        output.extend(if keeps_length { head } else { without_length(&head) });
        output.append(&mut self.made);
    }
}
