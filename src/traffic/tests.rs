use super::*;
use crate::error::ErrorKind;
use tokio::time::advance;

const GOOD: (u16, RequestOutcome) = (200, RequestOutcome::Forwarded);
const BROKEN: (u16, RequestOutcome) = (500, RequestOutcome::Forwarded);
const AWAY: (u16, RequestOutcome) = (502, RequestOutcome::Local(ErrorKind::UpstreamUnreachable));

fn record(route: &RouteTraffic, requests: &[(u16, RequestOutcome)]) {
    for (status, outcome) in requests {
        let note = Note { path: "/x".into(), correlation_id: Some("id".into()) };
        route.record(&Ended {
            method: "GET",
            status: StatusCode::from_u16(*status).ok(),
            outcome: *outcome,
            wants_csrf: false,
            took: Duration::from_millis(20),
            note: Some(&note),
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_fails_is_complained_about_until_it_works_again() {
    let traffic = Traffic::default();
    let route = traffic.route("/data", "datasphere");
    record(&route, &[BROKEN; 2]);
    assert!(traffic.complaints().is_empty(), "two may be a coincidence");
    record(&route, &[BROKEN; 18]);
    let complaints = traffic.complaints();
    let (upstream, why) = complaints.first().unwrap();
    assert_eq!(upstream, "datasphere");
    let begin = "20 of 20 requests in the last 5 minutes failed (500 from the tenant); ";
    assert!(why.starts_with(begin), "{why}");
    record(&route, &[GOOD; 21]);
    assert!(traffic.complaints().is_empty(), "most work");
    record(&route, &[AWAY; 30]);
    assert!(
        traffic.complaints()[0].1.contains("50 of 71")
            && traffic.complaints()[0].1.contains("reached")
    );
    advance(Duration::from_secs(60 * 6)).await;
    assert!(traffic.complaints()[0].1.starts_with("the last 30 requests failed"));
    record(&route, &[GOOD]);
    assert!(traffic.complaints().is_empty(), "it is over");

    // One request every two minutes.
    record(&route, &[GOOD]);
    for _ in 0..3 {
        advance(Duration::from_secs(120)).await;
        record(&route, &[AWAY]);
    }
    advance(Duration::from_secs(60 * 10)).await;
    assert!(traffic.complaints()[0].1.starts_with("the last 3 requests failed (the tenant cannot"));
    advance(Duration::from_secs(60 * 60)).await;
    assert!(traffic.complaints().is_empty(), "it is long ago");

    record(&route, &[GOOD; 100]);
    advance(Duration::from_secs(60 * 2)).await;
    record(&route, &[BROKEN; 30]);
    assert!(
        traffic.complaints()[0].1.starts_with("30 of 30 requests in the last 2 minutes failed")
    );
}

#[tokio::test(start_paused = true)]
async fn what_bearerd_answers_itself_is_no_failure_of_the_tenant() {
    let traffic = Traffic::default();
    let route = traffic.route("/data", "datasphere");
    let own = [
        ErrorKind::MethodNotAllowed,
        ErrorKind::AccessDenied,
        ErrorKind::Overloaded,
        ErrorKind::TokenUnavailable,
    ];
    for kind in own {
        record(&route, &[(kind.status().as_u16(), RequestOutcome::Local(kind)); 5]);
    }
    record(&route, &[(404, RequestOutcome::Forwarded); 5]);
    record(&route, &[(200, RequestOutcome::DownstreamClosed); 5]);
    record(&route, &[(0, RequestOutcome::DownstreamClosed); 7]);
    assert!(traffic.complaints().is_empty());
    let counts = traffic.recent("/data").unwrap().counts;
    // A request without a token fails, and the client's own state says why.
    assert_eq!(counts, Counts { good: 5, client_error: 5, failed: 5, local: 15 });
}

#[tokio::test(start_paused = true)]
async fn the_history_has_a_count_for_each_minute() {
    let traffic = Traffic::default();
    let route = traffic.route("/data", "datasphere");
    record(&route, &[GOOD, BROKEN]);
    advance(Duration::from_secs(60)).await;
    record(&route, &[GOOD]);
    let history = traffic.history();
    assert_eq!(history.len(), HISTORY);
    assert_eq!((history[HISTORY - 2].good, history[HISTORY - 2].failed), (1, 1));
    assert_eq!((history[HISTORY - 1].good, history[HISTORY - 1].failed), (1, 0));
    let recent = traffic.recent("/data").unwrap();
    assert_eq!(recent.counts.all(), 3);
    assert!(recent.p50.unwrap() >= Duration::from_millis(20));
    assert_eq!(recent.last.unwrap().status, Some(200));
    assert!(traffic.recent("/other").is_none());
}

#[tokio::test(start_paused = true)]
async fn only_the_last_failures_are_kept_and_the_memory_is_bounded() {
    let traffic = Traffic::default();
    let route = traffic.route("/data", "datasphere");
    for status in 500..600 {
        record(&route, &[(status, RequestOutcome::Forwarded)]);
    }
    let failures = traffic.failures();
    assert_eq!(failures.len(), FAILURES);
    assert_eq!((failures[0].status, failures[9].status), (Some(599), Some(590)));
    assert_eq!(failures[0].correlation_id.as_deref(), Some("id"));
    lock(&route.upstream.minutes).change(0, |causes| {
        assert_eq!((causes.all, causes.failed.len()), (100, CAUSES));
        assert_eq!(causes.failed.iter().map(|(_, count)| count).sum::<u32>(), 100);
    });
    assert_eq!(lock(&route.upstream.warnings).len(), 100);
    // The figures that the documentation of this room gives.
    assert!(size_of::<RouteTraffic>() <= 1_300, "{}", size_of::<RouteTraffic>());
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_routes_that_stay() {
    let traffic = Traffic::default();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    record(&traffic.route("/data", "datasphere"), &[GOOD]);
    record(&traffic.route("/old", "other"), &[GOOD]);
    record(&traffic.route("/data", "datasphere"), &[GOOD]);
    traffic.retain(&names(&["/data"]), &names(&["datasphere"]), &[]);
    assert_eq!(traffic.recent("/data").unwrap().counts.good, 2);
    assert!(traffic.recent("/old").is_none());
    let moved = traffic.route("/data", "elsewhere");
    assert_eq!(moved.upstream.name, "elsewhere");
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_on_a_tenant_that_hangs_are_failures() {
    let traffic = Traffic::default();
    let route = traffic.route("/data", "datasphere");
    for _ in 0..3 {
        route.record(&Ended {
            method: "GET",
            status: None,
            outcome: RequestOutcome::DownstreamClosed,
            wants_csrf: false,
            took: Duration::from_secs(10),
            note: None,
        });
    }
    assert!(traffic.complaints()[0].1.contains("no answer before the caller gave up"));
}
