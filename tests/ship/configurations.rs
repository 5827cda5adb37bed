//! The configurations that ship in config/ and deploy/.

use crate::support::folder_of;
use crate::support::process::{bearerd, output};
use crate::support::tls::Authority;
use std::path::{Path, PathBuf};

fn stream(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks that `bearerd check` accepts an example. `places` maps its paths to paths on this
/// machine.
async fn passes_the_check(example: &Path, places: &[(&str, &Path)], variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("bearerd.yaml");
    let mut here = std::fs::read_to_string(example).unwrap();
    for (there, place) in places {
        here = here.replace(there, place.to_str().unwrap());
    }
    std::fs::write(&copy, here).unwrap();
    let mut command = bearerd();
    command.envs(variables.iter().copied()).args(["check", "--config"]).arg(&copy);
    let checked = output(&mut command).await;
    assert!(checked.status.success(), "{example:?}: {}", stream(&checked.stderr));
    assert_eq!(stream(&checked.stderr), "", "{example:?}");
    assert!(stream(&checked.stdout).contains("The configuration is valid."));
}

#[tokio::test]
async fn every_shipped_configuration_passes_the_check() {
    let secrets = folder_of(&[
        ("client_secret", "s3cret"),
        ("dev_client_secret", "s3cret"),
        ("transport_client_secret", "s3cret"),
        ("user_admin_client_secret", "s3cret"),
        ("test_client_secret", "s3cret"),
        ("prod_client_secret", "s3cret"),
        ("proxy_credentials", "user:s3cret"),
        ("ca.pem", &Authority::new().pem),
    ]);
    let ca = secrets.path().join("ca.pem");
    let places = [("/run/secrets", secrets.path()), ("/etc/ssl/private-ca.pem", &ca)];
    let mut checked = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "json") {
            continue;
        }
        passes_the_check(&path, &places, &[("CLIENT_SECRET", "s3cret")]).await;
        checked += 1;
    }
    assert!(checked >= 3, "{checked}");
}

#[tokio::test]
async fn every_configuration_in_deploy_passes_the_check_with_the_credentials_of_its_platform() {
    let token_url = "https://acme.authentication.eu10.hana.ondemand.com/oauth/token";
    let id = "sb-1f2e!b42|client!b7";
    let plain =
        folder_of(&[("client_id", id), ("client_secret", "s3cret"), ("token_url", token_url)]);
    // A binding of Cloud Transport Management, as the SAP BTP service operator writes it.
    let uaa = r#"{"clientid":"sb-77c1!b99|transport!b3","clientsecret":"s3cret","url":"https://build.authentication.eu10.hana.ondemand.com"}"#;
    let metadata = r#"{"metaDataProperties":[{"name":"type","format":"text"},{"name":"plan","format":"text"},{"name":"tags","format":"json"}],"credentialProperties":[{"name":"uaa","format":"json"},{"name":"uri","format":"text"}]}"#;
    let binding = folder_of(&[
        (".metadata", metadata),
        ("type", "transport"),
        ("plan", "standard"),
        ("tags", "[]"),
        ("uaa", uaa),
        ("uri", "https://transport-service-app-backend.ts.cfapps.eu10.hana.ondemand.com"),
    ]);
    let services = format!(
        r#"{{"user-provided":[{{"label":"user-provided","name":"bearerd-credentials","tags":[],"credentials":{{"client_id":"{id}","client_secret":"s3cret","token_url":"{token_url}"}}}}]}}"#
    );
    let callers = folder_of(&[("etl", "a-key-of-a-caller-with-32-characters")]);
    let tls = tempfile::tempdir().unwrap();
    let (chain, key) = (tls.path().join("tls.crt"), tls.path().join("tls.key"));
    Authority::new().write_certificate(&chain, &key);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mounted = "/run/secrets/bearerd";
    let of_folder = [(mounted, plain.path())];
    let of_binding = [(mounted, binding.path())];
    let of_gateway = [
        (mounted, plain.path()),
        ("/run/secrets/tls", tls.path()),
        ("/run/secrets/callers", callers.path()),
    ];
    let systemd = [("CREDENTIALS_DIRECTORY", plain.path().to_str().unwrap())];
    let cloud_foundry = [("VCAP_SERVICES", services.as_str())];
    let plain_sidecar = [("LAME_DUCK", "10s"), ("GRACE", "15s")];
    let examples: [(&str, &[_], &[_]); 9] = [
        ("kubernetes/base", &of_folder, &[]),
        ("kubernetes/base", &of_folder, &plain_sidecar),
        ("kubernetes/overlays/unix-socket", &of_folder, &[]),
        ("kubernetes/overlays/btp-service-operator", &of_binding, &[]),
        ("kubernetes/overlays/gateway", &of_gateway, &[]),
        ("kubernetes/overlays/gateway", &of_gateway, &plain_sidecar),
        ("compose/bearerd", &of_folder, &[]),
        ("cloudfoundry/bearerd", &[], &cloud_foundry),
        ("systemd", &[], &systemd),
    ];
    let mut shipped = files_named("bearerd.yaml", &deploy);
    for (example, places, variables) in examples {
        let path = deploy.join(example).join("bearerd.yaml");
        passes_the_check(&path, places, variables).await;
        shipped.retain(|file| *file != path);
    }
    // The image's configuration is checked with the image.
    shipped.retain(|file| !file.starts_with(deploy.join("image")));
    assert!(shipped.is_empty(), "unchecked: {shipped:?}");
}

/// The memory limit of a deployment in MiB: the last one in the file.
fn memory_limit(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).unwrap();
    let of_line = |line: &str| {
        let (key, value) = line.trim().split_once([':', '='])?;
        let is_limit = ["memory", "mem_limit", "MemoryMax"].contains(&key);
        let digits = value.trim().trim_end_matches(|unit: char| !unit.is_ascii_digit());
        digits.parse().ok().filter(|_| is_limit)
    };
    text.lines().filter_map(of_line).next_back()
}

#[test]
fn every_memory_limit_in_deploy_fits_the_requests_at_once() {
    const EIGHT: u64 = 64;
    const IDLE: u64 = 16;
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let components = [
        "kubernetes/components/sidecar/workload.yaml",
        "kubernetes/components/sidecar/cronjob.yaml",
        "kubernetes/components/plain-sidecar/workload.yaml",
    ];
    let pairs: [(&str, &[&str]); 8] = [
        ("kubernetes/base/bearerd.yaml", &components),
        ("kubernetes/overlays/unix-socket/bearerd.yaml", &components),
        ("kubernetes/overlays/btp-service-operator/bearerd.yaml", &components),
        ("kubernetes/overlays/gateway/bearerd.yaml", &components),
        ("compose/bearerd/bearerd.yaml", &["compose/compose.yaml"]),
        ("cloudfoundry/bearerd/bearerd.yaml", &["cloudfoundry/manifest.yml"]),
        ("systemd/bearerd.yaml", &["systemd/bearerd.service"]),
        ("helm/bearerd/values.yaml", &["helm/bearerd/values.yaml"]),
    ];
    let mut limited: Vec<_> = files(&deploy)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|kind| kind != "json"))
        .filter(|file| memory_limit(file).is_some())
        .collect();
    let mut configured = files_named("bearerd.yaml", &deploy);
    for (config, files) in pairs {
        let config = deploy.join(config);
        let text = std::fs::read_to_string(&config).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("requests: "));
        let requests: u64 =
            line.unwrap_or_else(|| panic!("{config:?} has no limit")).parse().unwrap();
        for file in files.iter().map(|file| deploy.join(file)) {
            let limit = memory_limit(&file).unwrap();
            assert!(
                limit >= EIGHT + (requests - 8) + IDLE,
                "{file:?}: {limit}, {config:?}: {requests}"
            );
            limited.retain(|other| *other != file);
        }
        configured.retain(|other| *other != config);
    }
    assert!(limited.is_empty(), "not compared: {limited:?}");
    configured.retain(|file| !file.starts_with(deploy.join("image")));
    assert!(configured.is_empty(), "not compared: {configured:?}");
}

fn files_named(name: &str, folder: &Path) -> Vec<PathBuf> {
    let mut files = files(folder);
    files.retain(|path| path.file_name().is_some_and(|file| file == name));
    files
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
