//! `bearerd cert`: the files that it makes, and when it makes them anew.

use crate::support::Fixture;
use crate::support::process::{bearerd, output};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A configuration with other hosts, and the folder of the certificate.
struct CertScene {
    fixture: Fixture,
    folder: PathBuf,
}

impl CertScene {
    async fn start(hosts: &str) -> Self {
        let fixture = Fixture::start().await;
        let folder = fixture.path("tls");
        let scene = Self { fixture, folder };
        scene.set_hosts(hosts);
        scene
    }

    fn set_hosts(&self, hosts: &str) {
        let access = format!("{{ hosts: {hosts} }}");
        let config = self.fixture.configuration().key("access", access);
        std::fs::write(self.fixture.path("bearerd.yaml"), config.to_string()).unwrap();
    }

    /// Runs the command. Returns what it says, if it succeeds, or else its error.
    async fn run(&self, options: &[&str]) -> Result<String, String> {
        let mut command = bearerd();
        command.args(["cert", "--config"]).arg(self.fixture.path("bearerd.yaml"));
        command.arg("--folder").arg(&self.folder).args(options);
        let ended = output(&mut command).await;
        let [said, error] =
            [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
        if ended.status.success() { Ok(said) } else { Err(error) }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    async fn openssl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new("openssl");
        let ended = output(command.args(arguments).current_dir(&self.folder)).await;
        String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned()
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_certificate_is_made_for_the_hosts_and_renewed_when_it_must_be() {
    let scene = CertScene::start("[localhost, 127.0.0.1, \"[::1]\", sidecar.corp]").await;
    let said = scene.run(&[]).await.unwrap();
    assert!(said.contains("certificate_file: ") && said.contains("have to trust"), "{said}");
    for (name, wanted) in
        [("ca.key", 0o600), ("tls.key", 0o600), ("ca.pem", 0o644), ("tls.crt", 0o644)]
    {
        assert_eq!(mode(&scene.folder.join(name)), wanted, "{name}");
    }
    let verify = ["verify", "-CAfile", "ca.pem", "-purpose", "sslserver", "-verify_hostname"];
    for host in ["localhost", "sidecar.corp"] {
        let said = scene.openssl(&[&verify[..], &[host, "tls.crt"]].concat()).await;
        assert!(said.contains("tls.crt: OK"), "{said}");
    }
    let authority = scene.openssl(&["x509", "-in", "ca.pem", "-noout", "-text"]).await;
    for part in ["X509v3 Name Constraints: critical", "DNS:sidecar.corp", "pathlen:0"] {
        assert!(authority.contains(part), "{part}: {authority}");
    }

    // Nothing is due.
    let (first, key) = (scene.read("tls.crt"), scene.read("tls.key"));
    assert!(scene.run(&[]).await.unwrap().contains("is good until"));
    assert_eq!(scene.read("tls.crt"), first);
    // A new one has the same authority and the same key, so that it takes effect in one step.
    let authority = scene.read("ca.pem");
    let said = scene.run(&["--force"]).await.unwrap();
    assert!(!said.contains("have to trust"), "{said}");
    assert!(scene.read("tls.crt") != first && scene.read("tls.key") == key);
    assert_eq!(scene.read("ca.pem"), authority);
    // Fewer names are permitted, another one is not.
    scene.set_hosts("[sidecar.corp]");
    scene.run(&[]).await.unwrap();
    let shown =
        scene.openssl(&["x509", "-in", "tls.crt", "-noout", "-ext", "subjectAltName"]).await;
    assert!(shown.contains("DNS:sidecar.corp") && !shown.contains("localhost"), "{shown}");
    scene.set_hosts("[other.corp]");
    let error = scene.run(&[]).await.unwrap_err();
    assert!(error.contains("it may not sign for other.corp; --new-authority makes"), "{error}");
    scene.run(&["--new-authority"]).await.unwrap();
    assert!(scene.read("ca.pem") != authority);

    // Without its key, the authority signs nothing more.
    scene.run(&["--force", "--forget-authority-key"]).await.unwrap();
    assert!(!scene.folder.join("ca.key").exists());
    assert!(scene.run(&[]).await.unwrap().contains("is good until"));
    let error = scene.run(&["--force"]).await.unwrap_err();
    assert!(error.contains("ca.key is missing") && error.contains("--new-authority"), "{error}");
}
