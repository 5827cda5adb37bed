//! The whole sidecar in this process, on free ports.

use super::{eventually, http};
use bearerd::app::App;
use bearerd::config::{self, Flags, ListenAddress};
use bearerd::environment::Environment;
use bearerd::shutdown::Shutdown;

pub(crate) struct Sidecar {
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// The same of each TCP listener.
    pub(crate) urls: Vec<String>,
    pub(crate) admin: String,
    shutdown: Shutdown,
    http: reqwest::Client,
}

impl Sidecar {
    /// Starts it; ready or not.
    pub(crate) fn start(yaml: &str) -> Self {
        let config = config::parse("test.yaml", yaml, &Environment::default(), &Flags::default())
            .resolve()
            .unwrap();
        let app = App::bind(config).unwrap();
        let tcp = app.addresses().into_iter().filter_map(|address| match address {
            ListenAddress::Tcp(address) => Some(format!("http://{address}")),
            ListenAddress::Unix(_) => None,
        });
        let urls: Vec<_> = tcp.collect();
        let admin = app.admin_address().unwrap();
        let shutdown = Shutdown::default();
        tokio::spawn(app.run(shutdown.clone()));
        Self {
            url: urls[0].clone(),
            urls,
            admin: format!("http://{admin}"),
            shutdown,
            http: http(),
        }
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn ready(yaml: &str) -> Self {
        let sidecar = Self::start(yaml);
        eventually("ready", async || sidecar.probe("/readyz").await.0 == 200).await;
        sidecar
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub(crate) async fn probe(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.admin)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The value of the series that begins with this text; zero when it does not exist.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.probe("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(series));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub(crate) fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.shutdown.requested.cancel();
        self.shutdown.forced.cancel();
    }
}
