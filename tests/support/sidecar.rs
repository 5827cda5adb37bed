//! A sidecar in this process, on free ports.

use super::{eventually, http, tls};
use bearerd::app::{App, ConfigSource};
use bearerd::config::{self, Config, ConfigError, Flags, ListenAddress};
use bearerd::environment::Environment;
use bearerd::shutdown::Shutdown;
use bearerd::telemetry::LevelHandle;
use std::fmt::Display;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

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
    /// The configuration that a reload reads.
    yaml: Arc<Mutex<String>>,
    hangup: Arc<Notify>,
    shutdown: Shutdown,
}

impl Sidecar {
    /// Starts a sidecar and does not wait until it is ready.
    pub(crate) fn start(yaml: &(impl Display + ?Sized)) -> Self {
        Self::start_with(yaml, |app, _| app)
    }

    /// Starts a sidecar for which [`Sidecar::reload`] works, and waits until it is ready.
    pub(crate) async fn reloading(yaml: &(impl Display + ?Sized)) -> Self {
        let sidecar = Self::start_with(yaml, App::reloading);
        sidecar.wait_until_ready().await;
        sidecar
    }

    fn start_with(
        yaml: &(impl Display + ?Sized),
        change: impl FnOnce(App, ConfigSource) -> App,
    ) -> Self {
        let yaml = Arc::new(Mutex::new(yaml.to_string()));
        let load = {
            let yaml = yaml.clone();
            move || read(&yaml.lock().unwrap())
        };
        let app = App::bind(load().unwrap()).unwrap();
        let tcp = app.addresses().into_iter().filter_map(|address| match address {
            ListenAddress::Tcp(address) => {
                Some(format!("{}://{address}", tls::scheme(address, &yaml.lock().unwrap())))
            }
            ListenAddress::Unix(_) => None,
        });
        let urls: Vec<_> = tcp.collect();
        let admin = format!("http://{}", app.admin_address().unwrap());
        let (hangup, shutdown) = (Arc::new(Notify::new()), Shutdown::default());
        let (level, load) = (LevelHandle::default(), Arc::new(load));
        let source = ConfigSource { load, file: None, level, hangup: hangup.clone() };
        tokio::spawn(change(app, source).run(shutdown.clone()));
        let endpoints = Endpoints::new(urls[0].clone(), admin, http());
        Self { endpoints, urls, yaml, hangup, shutdown }
    }

    /// Asks for a reload with another configuration, and does not wait for it.
    pub(crate) fn reload(&self, yaml: &impl Display) {
        *self.yaml.lock().unwrap() = yaml.to_string();
        self.hangup.notify_one();
    }

    /// Starts a sidecar and waits until it is ready.
    pub(crate) async fn ready(yaml: &(impl Display + ?Sized)) -> Self {
        let sidecar = Self::start(yaml);
        sidecar.wait_until_ready().await;
        sidecar
    }
}

fn read(yaml: &str) -> Result<Config, ConfigError> {
    let draft = config::parse("test.yaml", yaml, &Environment::default(), &Flags::default());
    Ok(draft.resolve()?)
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
