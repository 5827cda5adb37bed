//! The tables of the README and of the documents agree with the program.

use crate::support::scene::Scene;
use bearerd::config::unknown_variables;
use bearerd::environment::Environment;
use bearerd::error::ErrorKind;
use bearerd::profile::{Csrf, Links, PROFILES, Replay};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use strum::VariantArray;

const README: &str = include_str!("../../README.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const OBSERVABILITY: &str = include_str!("../../docs/observability.md");
/// The largest size of the README, in bytes: it is an entrance.
const MOST: usize = 9 * 1024;

/// The names in backticks at the beginning of table rows.
fn first_cells() -> BTreeSet<&'static str> {
    OBSERVABILITY.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

#[tokio::test]
async fn the_table_of_metrics_lists_every_metric_and_no_other() {
    let scene = Scene::with(|config| config.client("expires_on", "2030-01-01")).await;
    let sidecar = &scene.sidecar;
    scene.first_request().await;
    let gateway = Scene::gateway().await.sidecar;
    let text = sidecar.probe("/metrics").await.1 + &gateway.probe("/metrics").await.1;
    let exported: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("bearerd_") && *name != "bearerd_clock_skew_seconds")
        .collect();
    let mut listed: BTreeSet<_> =
        first_cells().into_iter().filter(|name| name.starts_with("bearerd_")).collect();
    // It is exported only if the issuer sends `Date`, which the test's issuer does not.
    assert!(listed.remove("bearerd_clock_skew_seconds"));
    assert_eq!(exported, listed);
}

#[test]
fn every_source_file_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in ["CONTRIBUTING.md", "docs/architecture.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let named = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
        let mut count = 0;
        for name in named {
            count += 1;
            let is_there = root.join(name).exists() || root.join("src").join(name).exists();
            assert!(is_there, "{document}: {name}");
        }
        assert!(count > 0, "{document} names no file");
    }
}

#[test]
fn the_table_of_local_answers_lists_every_kind_with_its_status() {
    for kind in ErrorKind::VARIANTS {
        let row = format!("| `{}` | {} |", kind.label(), kind.status().as_u16());
        assert!(README.contains(&row), "{row}");
    }
}

#[test]
fn the_table_of_profiles_lists_every_profile_with_its_paths() {
    for profile in &PROFILES {
        let begin = format!("| `{}` |", profile.name);
        let row = CONFIGURATION.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("no row for {}", profile.name));
        for (path, _) in profile.paths {
            assert!(row.contains(&format!("`{path}`")), "{row}");
        }
        assert_eq!(row.ends_with("| yes |"), profile.custom_auth, "{row}");
        let csrf = match profile.csrf {
            Csrf::Off => "| off |",
            Csrf::IfAsked => "| if asked |",
            Csrf::Managed => "| managed |",
        };
        assert!(row.contains(csrf), "{row}");
        let links = match profile.links {
            Links::Off => "| headers |",
            Links::Json => "| JSON |",
            Links::JsonAndXml => "| JSON, XML |",
        };
        assert!(row.contains(links), "{row}");
        assert_eq!(row.contains("| any |"), profile.replay == Replay::Any, "{row}");
    }
}

#[test]
fn the_variables_that_the_documents_name_are_read() {
    let named: BTreeSet<_> = CONFIGURATION
        .split('`')
        .filter(|word| word.starts_with("BEARERD_") && !word.contains(' '))
        .collect();
    assert!(named.len() >= 9, "{named:?}");
    for name in named {
        assert_eq!(unknown_variables(&Environment::from([(name, "x")])).count(), 0, "{name}");
    }
}

#[test]
fn the_readme_stays_an_entrance() {
    assert!(README.len() <= MOST, "{}", README.len());
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |letter: char| letter.is_alphanumeric() || " -_".contains(letter);
        title.chars().filter(|letter| kept(*letter)).collect::<String>().replace(' ', "-")
    };
    text.lines().filter(|line| line.starts_with('#')).map(heading).collect()
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents =
        vec![root.join("README.md"), root.join("SECURITY.md"), root.join("CONTRIBUTING.md")];
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(pages.filter(|path| path.extension().is_some_and(|end| end == "md")));
    let mut count = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(anchors.contains(anchor), "{}: {link}", document.display());
            }
        }
    }
    assert!(count > 60, "{count}");
}
