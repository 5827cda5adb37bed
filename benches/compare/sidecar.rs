//! The proxies of the comparison, each with a usual sidecar configuration.

use crate::load::{Work, first_answer};
use crate::process::{Process, free_address};
use crate::world::{World, filled};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A kind of sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    /// nginx with TLS on both sides.
    NginxTls,
    /// nginx without an access log: the best result of a proxy in C.
    NginxSilent,
    /// nginx with a Lua script that fetches the token, as people write it by hand.
    NginxLua,
    Haproxy,
    /// A proxy in Go.
    Caddy,
    Envoy,
    /// pingora with bearerd's settings and none of its code.
    Minimal,
    Bearerd(Extra),
}

/// The variant of a bearerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// Another build of bearerd: [`OTHER_BUILD`].
    OtherBuild,
    /// A token that lives for seconds, so that every window of [`crate::lifetime`] has a refresh.
    ShortTokens,
    /// This many more routes.
    Routes(usize),
    /// This many more clients, with a route each.
    Clients(usize),
    /// TLS on both sides.
    Tls,
}

/// The path of the bearerd to measure.
pub(crate) static BUILD: OnceLock<PathBuf> = OnceLock::new();
/// The path of the build to compare it with, if one is given.
pub(crate) static OTHER_BUILD: OnceLock<PathBuf> = OnceLock::new();

/// What distinguishes that build.
pub(crate) static OTHER_NAME: OnceLock<String> = OnceLock::new();

/// The usual configuration of bearerd.
pub(crate) const BEARERD: Kind = Kind::Bearerd(Extra::Nothing);

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Nginx => "nginx".into(),
            Self::NginxTls => "nginx with TLS".into(),
            Self::NginxSilent => "nginx without a log".into(),
            Self::NginxLua => "nginx with Lua".into(),
            Self::Haproxy => "HAProxy".into(),
            Self::Caddy => "Caddy".into(),
            Self::Envoy => "Envoy".into(),
            Self::Minimal => "minimal pingora".into(),
            Self::Bearerd(Extra::Nothing) => "**bearerd**".into(),
            Self::Bearerd(Extra::OtherBuild) => {
                format!("bearerd, {}", OTHER_NAME.get().map_or("the other build", String::as_str))
            }
            Self::Bearerd(Extra::ShortTokens) => "bearerd, tokens of 7 s".into(),
            Self::Bearerd(Extra::Routes(count)) => format!("bearerd, {count} more routes"),
            Self::Bearerd(Extra::Clients(count)) => format!("bearerd, {count} more clients"),
            Self::Bearerd(Extra::Tls) => "**bearerd with TLS**".into(),
        }
    }

    /// Whether callers speak TLS to it.
    const fn has_tls(self) -> bool {
        matches!(self, Self::NginxTls | Self::Bearerd(Extra::Tls))
    }

    /// The path of the program.
    pub(crate) fn program(self) -> PathBuf {
        let name = match self {
            Self::Nginx | Self::NginxTls | Self::NginxSilent | Self::NginxLua => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
            Self::Envoy => return envoy(),
            Self::Minimal => return std::env::current_exe().unwrap(),
            Self::Bearerd(Extra::OtherBuild) => return OTHER_BUILD.get().unwrap().clone(),
            Self::Bearerd(_) => return BUILD.get().unwrap().clone(),
        };
        let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        let found =
            places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
        found.unwrap_or_else(|| panic!("{name} is not installed: scripts/setup.sh --with-peers"))
    }
}

/// The path of a program that `make compare` has installed.
fn envoy() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/.venv/lib");
    let pythons = fs::read_dir(venv).into_iter().flatten().filter_map(Result::ok);
    let mut binaries = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.find(|binary| binary.exists()).expect("Envoy is installed by `make compare`")
}

/// What `listen` of nginx has besides the address, and the keys after it.
const NGINX_TLS: &str = " ssl;
        ssl_certificate @FOLDER@/server.pem;
        ssl_certificate_key @FOLDER@/server.key;
        ssl_protocols TLSv1.2 TLSv1.3";

/// A running sidecar.
pub(crate) struct Sidecar {
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// The URL of bearerd's metrics.
    pub(crate) admin: SocketAddr,
}

impl Sidecar {
    /// Starts a sidecar and waits for its first response.
    pub(crate) fn ready(kind: Kind, world: &World, workers: usize, cores: &str) -> Self {
        let sidecar = Self::start(kind, world, workers, cores);
        first_answer(sidecar.address, &sidecar.small(world));
        sidecar
    }

    /// The request of most cases: 1 KB.
    pub(crate) fn small(&self, world: &World) -> Work {
        let tls = self.kind.has_tls().then(|| world.callers_tls());
        Work { tls, ..Work::get(self.address, "/plain/small", &world.small) }
    }

    /// Starts a sidecar with this many workers on these cores.
    pub(crate) fn start(kind: Kind, world: &World, workers: usize, cores: &str) -> Self {
        let (address, admin) = (free_address(), free_address());
        let folder = world.folder();
        // Not shorter: bearerd requests at most twenty tokens a minute.
        let lifetime = if kind == Kind::Bearerd(Extra::ShortTokens) { 7 } else { 3600 };
        // Several sidecars of a kind may run at the same time.
        let file = |ending: &str| format!("sidecar-{}.{ending}", address.port());
        let access_log = match kind {
            Kind::NginxSilent => "off".into(),
            _ => world.logs().join(file("access.log")).display().to_string(),
        };
        let listen = match kind {
            Kind::Bearerd(Extra::Tls) => format!(
                "{{ address: {address}, tls: {{ certificate_file: {0}/server.pem, private_key_file: {0}/server.key }} }}",
                folder.display()
            ),
            _ => address.to_string(),
        };
        let values = [
            // Before the folder, which occurs in it.
            ("LISTEN_TLS", if kind.has_tls() { NGINX_TLS } else { "" }),
            ("FOLDER", &*folder.to_string_lossy()),
            ("LISTEN", &listen),
            ("LISTEN_PORT", &address.port().to_string()),
            ("ADMIN", &admin.to_string()),
            ("PORT", &world.upstream.port().to_string()),
            ("ISSUER", &world.issuer.address.to_string()),
            ("ISSUER_PORT", &world.issuer.address.port().to_string()),
            ("TOKEN", &world.token),
            ("LIFETIME", &lifetime.to_string()),
            ("WORKERS", &workers.to_string()),
            ("ACCESS_LOG", &access_log),
        ];
        let configuration = folder.join(file("yaml"));
        let text = filled(template(kind), &values);
        let text = match kind {
            Kind::Bearerd(extra) => with_extra(&text, extra, world),
            _ => text,
        };
        fs::write(&configuration, text).unwrap();
        let configuration = configuration.display().to_string();
        let program = kind.program().display().to_string();
        let (workers, token) = (workers.to_string(), format!("TOKEN={}", world.token));
        let cores_of_go = format!("GOMAXPROCS={workers}");
        let command: &[&str] = match kind {
            Kind::Nginx | Kind::NginxTls | Kind::NginxSilent | Kind::NginxLua => {
                &[&program, "-c", &configuration]
            }
            Kind::Caddy => &[
                "env",
                &cores_of_go,
                &program,
                "run",
                "--adapter",
                "caddyfile",
                "--config",
                &configuration,
            ],
            Kind::Haproxy => &["env", &token, &program, "-db", "-f", &configuration],
            Kind::Envoy => &[
                &program,
                "--config-path",
                &configuration,
                "--concurrency",
                &workers,
                "--disable-hot-restart",
                "--log-level",
                "error",
            ],
            Kind::Minimal => &[&program, "minimal", &configuration],
            Kind::Bearerd(_) => &[&program, "run", "--config", &configuration],
        };
        // The output of bearerd and HAProxy is their access log.
        let process = Process::start(command, cores, &world.logs().join(file("log")));
        Self { kind, process, address, admin }
    }
}

fn template(kind: Kind) -> &'static str {
    match kind {
        Kind::Nginx | Kind::NginxTls | Kind::NginxSilent => include_str!("peers/nginx.conf"),
        Kind::NginxLua => include_str!("peers/nginx-lua.conf"),
        Kind::Haproxy => include_str!("peers/haproxy.cfg"),
        Kind::Caddy => include_str!("peers/Caddyfile"),
        Kind::Envoy => include_str!("peers/envoy.yaml"),
        Kind::Minimal => include_str!("peers/minimal.json"),
        Kind::Bearerd(_) => include_str!("peers/bearerd.yaml"),
    }
}

fn with_extra(configuration: &str, extra: Extra, world: &World) -> String {
    let issuer = world.issuer.address;
    let client = |index| {
        format!(
            "  client-{index}: {{ token_url: \"http://{issuer}/3600\", client_id: compare, client_secret: secret }}\n"
        )
    };
    let (clients, routes): (String, String) = match extra {
        Extra::Nothing | Extra::OtherBuild | Extra::ShortTokens | Extra::Tls => {
            (String::new(), String::new())
        }
        Extra::Routes(count) => (String::new(), (0..count).map(|index| route(index, "")).collect()),
        Extra::Clients(count) => (
            (0..count).map(client).collect(),
            (0..count).map(|index| route(index, &format!(", client: client-{index}"))).collect(),
        ),
    };
    let (before, after) = configuration.split_once("upstreams:\n").unwrap();
    format!("{before}{clients}upstreams:\n{after}{routes}")
}

/// A route of its own to the servers that `/` leads to.
fn route(index: usize, client: &str) -> String {
    format!("  - {{ path: /way-{index}, strip_path: true, profile: passthrough{client} }}\n")
}
