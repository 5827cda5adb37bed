//! The phases of a caller's connection.

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A first request.
    Idle,
    /// The rest of a header.
    Header,
    /// A body that the caller sends once it gets `100 Continue` (RFC 9110 section 10.1.1).
    AwaitingContinue,
    /// A body, or its rest.
    Body,
    /// A body that the caller was not asked to send, while the response is being sent.
    UnrequestedBody,
    /// A body that may not be needed any more, while the response is being sent.
    OptionalBody,
    /// A body that nobody needs: the response was sent.
    UnneededBody,
    /// The upstream's response: the caller has sent all.
    Response,
    /// Another request: the last one is over.
    Ended,
}

impl Phase {
    /// Whether no hook has run yet.
    pub(super) const fn is_before_hooks(self) -> bool {
        matches!(self, Self::Idle | Self::Header)
    }

    /// Whether the next byte begins a request.
    pub(super) const fn is_between_requests(self) -> bool {
        matches!(self, Self::Idle | Self::Ended)
    }
}
