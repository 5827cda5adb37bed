//! A sidecar in this process, on free ports.

use super::{eventually, http, tls};
use bearerd::app::App;
use bearerd::config::{self, Flags, ListenAddress};
use bearerd::environment::Environment;
use bearerd::shutdown::Shutdown;
use std::fmt::Display;
use std::ops::Deref;

/// The addresses of a running sidecar, with a client for them.
pub(crate) struct Endpoints {
    /// `http://127.0.0.1:PORT`, or `https:` over TLS
    pub(crate) url: String,
    /// The URL of the admin listener.
    pub(crate) admin: String,
    http: reqwest::Client,
}

impl Endpoints {
    pub(crate) fn new(url: String, admin: String, http: reqwest::Client) -> Self {
        Self { url, admin, http }
    }

    /// The `host:port` of the main listener.
    pub(crate) fn host(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    /// Sends a GET request through the sidecar.
    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    /// The status and text of a page on the admin listener.
    pub(crate) async fn probe(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.admin)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The value of the first series that begins with this text, or zero.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.probe("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(series));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub(crate) async fn wait_until_ready(&self) {
        eventually("ready", async || self.probe("/readyz").await.0 == 200).await;
    }
}

pub(crate) struct Sidecar {
    endpoints: Endpoints,
    /// The URLs of all TCP listeners.
    pub(crate) urls: Vec<String>,
    shutdown: Shutdown,
}

impl Sidecar {
    /// Starts a sidecar and does not wait until it is ready.
    pub(crate) fn start(yaml: &(impl Display + ?Sized)) -> Self {
        let (yaml, flags) = (yaml.to_string(), Flags::default());
        let config = config::parse("test.yaml", &yaml, &Environment::default(), &flags);
        let config = config.resolve().unwrap();
        let app = App::bind(config).unwrap();
        let tcp = app.addresses().into_iter().filter_map(|address| match address {
            ListenAddress::Tcp(address) => {
                Some(format!("{}://{address}", tls::scheme(address, &yaml)))
            }
            ListenAddress::Unix(_) => None,
        });
        let urls: Vec<_> = tcp.collect();
        let admin = format!("http://{}", app.admin_address().unwrap());
        let shutdown = Shutdown::default();
        tokio::spawn(app.run(shutdown.clone()));
        Self { endpoints: Endpoints::new(urls[0].clone(), admin, http()), urls, shutdown }
    }

    /// Starts a sidecar and waits until it is ready.
    pub(crate) async fn ready(yaml: &(impl Display + ?Sized)) -> Self {
        let sidecar = Self::start(yaml);
        sidecar.wait_until_ready().await;
        sidecar
    }
}

impl Deref for Sidecar {
    type Target = Endpoints;

    fn deref(&self) -> &Endpoints {
        &self.endpoints
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.shutdown.requested.cancel();
        self.shutdown.forced.cancel();
    }
}
