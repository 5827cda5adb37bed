//! Replays of writes: a write is sent again only after a response that says that nothing was done.

use crate::support::http;
use crate::support::issuer::{self, token};
use crate::support::sidecar::Sidecar;
use crate::support::upstream::{Behaviour, Peer};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::StatusCode;

/// A response of an upstream to a write.
#[derive(Clone, Copy, Debug)]
enum Says {
    Done,
    Unauthorized,
    Forbidden,
    WantsCsrf,
    ToLogin,
    Trouble,
    Gone,
}

impl Says {
    const ALL: [Self; 7] = [
        Self::Done,
        Self::Unauthorized,
        Self::Forbidden,
        Self::WantsCsrf,
        Self::ToLogin,
        Self::Trouble,
        Self::Gone,
    ];

    fn behaviour(self) -> Behaviour {
        let answer = |line: &str, headers: &str| issuer::status(line, headers, "");
        match self {
            Self::Done => answer("201 Created", ""),
            Self::Unauthorized => answer("401 Unauthorized", ""),
            Self::Forbidden => answer("403 Forbidden", ""),
            Self::WantsCsrf => answer("403 Forbidden", "x-csrf-token: Required\r\n"),
            Self::ToLogin => answer("302 Found", "location: /oauth/authorize\r\n"),
            Self::Trouble => answer("500 Trouble", ""),
            Self::Gone => Behaviour::AnswerAndClose(String::new()),
        }
    }

    /// Whether the response says that nothing was done, so that sending again is safe.
    fn did_nothing(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden | Self::WantsCsrf | Self::ToLogin)
    }
}

/// Sends one write to an upstream that gives these responses in turn. Returns the status, and the
/// numbers of writes and of token requests.
async fn write_against(says: &[Says]) -> (StatusCode, usize, usize) {
    let issuer = Peer::start(token("later", 3600)).await;
    issuer.script([token("first", 3600)]);
    let upstream = Peer::start(Says::Done.behaviour()).await;
    upstream.always("/api/v1/csrf", issuer::status("200 OK", "x-csrf-token: t\r\n", ""));
    upstream.script(says.iter().map(|says| says.behaviour()));
    let config = issuer.configuration(&upstream.url()).client("wait", "2s");
    let sidecar = Sidecar::ready(&config).await;
    let request = http().post(format!("{}/users/x", sidecar.url)).body("body");
    let status = request.send().await.unwrap().status();
    let seen = upstream.seen();
    let writes: Vec<_> = seen.iter().filter(|seen| seen.line().starts_with("POST")).collect();
    assert!(writes.iter().all(|write| write.body == b"body"), "whole each time");
    (status, writes.len(), issuer.seen().len())
}

#[test]
fn whatever_the_upstream_says_a_write_is_sent_again_only_where_nothing_was_done() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 60, ..Config::default() });
    let sequence = prop::collection::vec(prop::sample::select(Says::ALL.to_vec()), 0..6);
    let outcome = runner.run(&sequence, |says| {
        let (status, writes, token_requests) = runtime.block_on(write_against(&says));
        // The first try, one heal, one CSRF replay.
        prop_assert!(writes <= 3, "{writes} writes");
        prop_assert!(token_requests <= 2, "{token_requests} token requests");
        let said = says.iter().copied().chain(std::iter::repeat(Says::Done)).take(writes);
        let said: Vec<_> = said.collect();
        let (last, before) = said.split_last().unwrap();
        prop_assert!(before.iter().all(|says| says.did_nothing()), "sent again after {said:?}");
        let csrf_replays = before.iter().filter(|says| matches!(says, Says::WantsCsrf)).count();
        prop_assert!(csrf_replays <= 1 && before.len() - csrf_replays <= 1, "{said:?}");
        let expected = match last {
            Says::Done => 201,
            Says::Unauthorized => 401,
            Says::Forbidden | Says::WantsCsrf => 403,
            Says::Trouble => 500,
            Says::ToLogin | Says::Gone => 502,
        };
        prop_assert_eq!(status.as_u16(), expected, "{:?}", said);
        Ok(())
    });
    outcome.unwrap();
}
