//! Cost of scraping for callers: the same load with Prometheus at 10 Hz and without, in turns.
//!
//! Prints the medians of throughput and of the 99th percentile, and their ratios. The turns
//! alternate, so that the noise of the machine affects both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stdout)]

mod loopback;

use bearerd::app::App;
use bearerd::config::{self, Flags, ListenAddress};
use bearerd::environment::Environment;
use bearerd::shutdown::Shutdown;
use loopback::{answer, get, serve, token};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const CONNECTIONS: usize = 32;
const TURN: Duration = Duration::from_secs(2);
const PAIRS: usize = 10;
const SCRAPE: Duration = Duration::from_millis(100);

/// Requests per second, and the 99th percentile in milliseconds.
async fn turn(target: SocketAddr) -> (f64, f64) {
    let until = Instant::now() + TURN;
    let callers = (0..CONNECTIONS).map(|_| {
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(target).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let request = format!("GET /data/x HTTP/1.1\r\nHost: {target}\r\n\r\n");
            let (mut buffer, mut took) = (vec![0; 16 * 1024], Vec::new());
            while Instant::now() < until {
                let started = Instant::now();
                get(&mut stream, request.as_bytes(), &mut buffer).await;
                took.push(started.elapsed());
            }
            took
        })
    });
    let mut took = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        took.extend(caller.await.unwrap());
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100].as_secs_f64() * 1e3;
    (took.len() as f64 / TURN.as_secs_f64(), p99)
}

async fn scrape(admin: SocketAddr) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut ticks = interval(SCRAPE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        get(&mut stream, request.as_bytes(), &mut buffer).await;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` only checks that it runs.
    let pairs = if std::env::args().any(|argument| argument == "--bench") { PAIRS } else { 1 };
    let issuer = serve(|_| token("a.b.c")).await;
    let upstream = serve(|_| answer(&format!(r#"{{"value":"{}"}}"#, "x".repeat(1000)))).await;
    let yaml = format!(
        "listen: 127.0.0.1:0
admin: {{ listen: 127.0.0.1:0 }}
clients:
  c: {{ token_url: \"http://{issuer}/oauth/token\", client_id: id, client_secret: s }}
upstreams:
  u: {{ url: \"http://{upstream}\" }}
routes:
  - {{ path: /data, profile: passthrough }}
  - {{ path: /users, profile: scim }}
  - {{ path: /other, profile: rest }}
"
    );
    let config =
        config::parse("scrape", &yaml, &Environment::default(), &Flags::default()).resolve();
    let app = App::bind(config.unwrap()).unwrap();
    let ListenAddress::Tcp(target) = app.addresses().remove(0) else { panic!("TCP") };
    let admin = app.admin_address().unwrap();
    let shutdown = Shutdown::default();
    let running = tokio::spawn(app.run(shutdown.clone()));
    sleep(Duration::from_millis(500)).await;

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        without.push(turn(target).await);
        let scraping = tokio::spawn(scrape(admin));
        with.push(turn(target).await);
        scraping.abort();
        // Otherwise it may find the sidecar ended.
        let _ = scraping.await;
    }
    let medians = |turns: Vec<(f64, f64)>| {
        let (throughput, p99) = turns.into_iter().unzip();
        (median(throughput), median(p99))
    };
    let (without, with) = (medians(without), medians(with));
    println!("| | requests a second | p99 |\n|---|---|---|");
    println!("| without scraping | {:.0} | {:.2} ms |", without.0, without.1);
    println!("| scraped at 10 Hz | {:.0} | {:.2} ms |", with.0, with.1);
    println!("| ratio | {:.3} | {:.3} |", with.0 / without.0, with.1 / without.1);
    shutdown.requested.cancel();
    running.await.unwrap().unwrap();
}
