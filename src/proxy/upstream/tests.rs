use super::*;
use crate::config::{InFlightLimits, Transport};
use crate::proxy::attempts::{Attempts, Cause};
use pingora::upstreams::peer::Peer;
use std::net::SocketAddr;

fn upstream(url: &str) -> Arc<UpstreamHandle> {
    let second = Duration::from_secs(1);
    let config = Upstream {
        name: "u".into(),
        origin: url.parse().unwrap(),
        origin_client: None,
        timeouts: Timeouts {
            connect: second,
            read: second * 2,
            write: second * 3,
            idle: second * 4,
        },
        in_flight: None,
        csrf_fetch_path: None,
        transport: Transport::default(),
        http2: false,
        certificate: None,
    };
    pingora::tls::install_default_crypto_provider();
    Arc::new(UpstreamHandle::new(&config).unwrap())
}

fn request() -> RequestHeader {
    RequestHeader::build("GET", b"/", None).unwrap()
}

#[test]
fn host_name_and_port_come_from_the_url() {
    let shown = |url| {
        let upstream = upstream(url);
        format!(
            "{} {} {} {:?}",
            upstream.addresses.host,
            upstream.addresses.port,
            upstream.template.sni,
            upstream.host_header
        )
    };
    assert_eq!(shown("https://acme.example"), r#"acme.example 443 acme.example "acme.example""#);
    assert_eq!(
        shown("https://acme.example:8443"),
        r#"acme.example 8443 acme.example "acme.example:8443""#
    );
    assert_eq!(shown("https://[::1]:9"), r#"::1 9 ::1 "[::1]:9""#);
    assert_eq!(shown("http://127.0.0.1:80"), r#"127.0.0.1 80 127.0.0.1 "127.0.0.1""#);
}

#[tokio::test]
async fn a_successor_counts_requests_in_flight_at_its_predecessor() {
    let second = Duration::from_secs(1);
    let with = |most| {
        let limits = InFlightLimits { most, queue: 0, wait: second };
        let upstream = Arc::into_inner(upstream("https://127.0.0.1:9")).unwrap();
        UpstreamHandle { concurrency: Some(Arc::new(ConcurrencyLimit::new(limits))), ..upstream }
    };
    let before = with(1);
    let _slot = before.acquire_slot().await.unwrap();
    assert!(with(1).succeeding(Some(&before)).acquire_slot().await.is_err());
    assert!(with(2).succeeding(Some(&before)).acquire_slot().await.is_ok(), "the limit is another");
    assert!(with(1).succeeding(None).acquire_slot().await.is_ok());
}

#[tokio::test]
async fn every_timeout_is_set_on_every_peer() {
    let peer =
        upstream("https://127.0.0.1:9").peer(&request(), &mut Tried::default()).await.unwrap();
    let options = &peer.options;
    let seconds = |duration: Option<Duration>| duration.unwrap().as_secs();
    assert_eq!(seconds(options.connection_timeout), 1);
    assert_eq!(seconds(options.total_connection_timeout), 2);
    assert_eq!(seconds(options.read_timeout), 2);
    assert_eq!(seconds(options.write_timeout), 3);
    assert_eq!(seconds(options.idle_timeout), 4);
    let keepalive = options.tcp_keepalive.as_ref().unwrap();
    assert_eq!(keepalive.user_timeout, keepalive::LONGEST);
    assert!(options.verify_cert && options.verify_hostname);
}

#[tokio::test]
async fn large_bodies_have_connections_of_their_own_which_may_be_idle_longer() {
    let upstream = Arc::into_inner(upstream("https://127.0.0.1:9")).unwrap();
    let minute = Duration::from_secs(60);
    let of_uploads = (keepalive::for_uploads(minute), upstream.of_uploads.1.clone());
    let upstream = Arc::new(UpstreamHandle { of_uploads, ..upstream });
    let peer = async |headers: &[(&'static str, &str)]| {
        let mut request = RequestHeader::build("PUT", b"/", None).unwrap();
        for (name, value) in headers {
            request.insert_header(*name, *value).unwrap();
        }
        let peer = upstream.peer(&request, &mut Tried::default()).await.unwrap();
        (peer.reuse_hash(), peer.options.tcp_keepalive.unwrap().user_timeout)
    };
    let small = peer(&[("content-length", "65536")]).await;
    assert_eq!((small, small.1), (peer(&[]).await, keepalive::LONGEST));
    let large = peer(&[("content-length", "65537")]).await;
    assert_eq!((large, large.1), (peer(&[("transfer-encoding", "chunked")]).await, minute));
    assert_ne!(small.0, large.0, "they share no connections");
}

#[tokio::test]
async fn after_a_failed_address_the_next_one_is_tried() {
    let upstream = upstream("https://127.0.0.1:9");
    let known = [9, 10].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    upstream.addresses.pretend(Duration::ZERO, known);
    let port = async |tried: &mut Tried| {
        upstream.peer(&request(), tried).await.unwrap()._address.as_inet().unwrap().port()
    };
    let fails = |tried: &mut Tried, why| {
        let error = Error::explain(ErrorType::ConnectRefused, why).into_up();
        upstream.decide_connect_retry(error, tried, &mut Attempts::default()).retry()
    };
    let (mut one, mut other) = (Tried::default(), Tried::default());
    assert_eq!((port(&mut one).await, port(&mut other).await), (9, 9));
    assert!(fails(&mut one, "") && fails(&mut other, ""), "there is a second");
    assert_eq!((port(&mut one).await, port(&mut other).await), (10, 10));
    assert_eq!(port(&mut Tried::default()).await, 10, "others begin with what may work");
    assert!(fails(&mut one, "the last"), "the resolver may know another");
    let error = upstream.peer(&request(), &mut one).await.unwrap_err();
    let context = error.context.as_ref().map(|context| context.as_str().to_owned());
    assert_eq!((error.etype(), context.as_deref()), (&ErrorType::ConnectRefused, Some("the last")));
    assert_eq!(port(&mut Tried::default()).await, 9, "and come back to the first");
}

#[tokio::test]
async fn a_kept_connection_of_http2_that_is_gone_is_no_fault_of_its_address() {
    let upstream = upstream("https://127.0.0.1:9");
    let (mut tried, mut attempts) = (Tried::default(), Attempts::default());
    upstream.peer(&request(), &mut tried).await.unwrap();
    let most = Cause::LostConnection.limit() as usize;
    for number in 1..=most + 1 {
        let gone = loss::tests::gone().await;
        let error = Error::because(ErrorType::H2Error, "while creating new stream", gone);
        let again = upstream.decide_connect_retry(error.into_up(), &mut tried, &mut attempts);
        assert_eq!((again.retry(), tried.failed.len()), (true, number / (most + 1)));
    }
}

#[tokio::test]
async fn a_failed_address_is_avoided_in_whatever_order_the_resolver_returns_them() {
    let upstream = upstream("https://127.0.0.1:9");
    let [dead, alive] = [8, 9].map(|last| SocketAddr::from(([127, 0, 0, last], 9)));
    upstream.addresses.pretend(Duration::ZERO, [dead, alive]);
    let mut tried = Tried::default();
    upstream.peer(&request(), &mut tried).await.unwrap();
    let error = Error::new_up(ErrorType::ConnectTimedout);
    upstream.decide_connect_retry(error, &mut tried, &mut Attempts::default());
    for order in [[alive, dead], [dead, alive]] {
        upstream.addresses.pretend(Duration::ZERO, order);
        let peer = upstream.peer(&request(), &mut Tried::default()).await.unwrap();
        assert_eq!(peer._address.as_inet(), Some(&alive));
    }
}

#[tokio::test]
async fn after_all_addresses_failed_the_name_is_looked_up_again() {
    let upstream = upstream("https://127.0.0.1:9");
    upstream.addresses.pretend(Duration::ZERO, [([127, 0, 0, 9], 9).into()]);
    let (mut tried, mut attempts) = (Tried::default(), Attempts::default());
    for address in ["127.0.0.9:9", "127.0.0.1:9"] {
        let peer = upstream.peer(&request(), &mut tried).await.unwrap();
        assert_eq!(peer._address.to_string(), address);
        let error = Error::new_up(ErrorType::ConnectRefused);
        let again = upstream.decide_connect_retry(error, &mut tried, &mut attempts);
        assert_eq!(again.retry(), address == "127.0.0.9:9", "it is asked once");
    }
}
