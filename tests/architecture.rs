//! Direction of imports in `src`: a room, which is a top-level module, imports only rooms below it,
//! and no two files import each other.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, UseTree};

/// Rooms from the ground up. Each imports only rooms before it in this list.
const FLOORS: [&str; 51] = [
    // What knows nothing of bearerd.
    "blocking",
    "clock",
    "drain",
    "endpoint",
    "environment",
    "error",
    "journal",
    "keepalive",
    "profile",
    "readable",
    "redact",
    "retry_after",
    "text",
    "throttle",
    "trace_context",
    // Files and what is in them.
    "files",
    "pem",
    "secret",
    "secret_file",
    "caller_secret",
    "private_authority",
    "forward_proxy",
    "credential",
    "config",
    // The process.
    "resolver",
    "sandbox",
    "shutdown",
    "service_manager",
    "telemetry",
    "trust",
    "watch",
    "no_answer",
    "http_client",
    "listener_tls",
    "metrics",
    "traffic",
    "audit",
    // Tokens, requests, and who shows how they are.
    "token",
    "otlp",
    "proxy",
    "readiness",
    "status",
    "server",
    "admin",
    // The whole.
    "app",
    "probe",
    "demo",
    "doctor",
    "cli",
    "main",
    "lib",
];

/// One import of another room.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
    /// Where it stands.
    place: String,
}

impl Arrow {
    /// Whether it leads down.
    fn is_allowed(&self) -> bool {
        floor(&self.to) < floor(&self.from)
    }
}

fn floor(room: &str) -> usize {
    let floor = FLOORS.iter().position(|known| *known == room);
    floor.unwrap_or_else(|| panic!("the room `{room}` is on no floor of tests/architecture.rs"))
}

/// Collects the arrows of one file.
struct Reader {
    file: String,
    /// The path of the module that is being read.
    module: Vec<String>,
    rooms: BTreeSet<String>,
    arrows: BTreeSet<Arrow>,
    /// Paths from the root of the crate.
    paths: BTreeSet<Vec<String>>,
}

impl Reader {
    /// Notes a path by its first names, if it leads to another room.
    fn path(&mut self, names: &[String], line: usize) {
        let (first, rest) = names.split_first().unwrap();
        let supers = names.iter().take_while(|name| *name == "super").count();
        let whole = match first.as_str() {
            "crate" | "bearerd" => rest.to_vec(),
            "super" => {
                let depth = self.module.len().saturating_sub(supers);
                [&self.module[..depth], &names[supers..]].concat()
            }
            _ => return,
        };
        self.paths.insert(whole.clone());
        let Some(to) = whole.first().filter(|to| self.rooms.contains(*to)) else { return };
        let from = &self.module[0];
        if to != from {
            let place = format!("{}:{line}", self.file);
            self.arrows.insert(Arrow { from: from.clone(), to: to.clone(), place });
        }
    }

    fn tree(&mut self, tree: &UseTree, names: &mut Vec<String>) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => {
                names.push(path.ident.to_string());
                self.tree(&path.tree, names);
                names.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.tree(item, names));
            }
            UseTree::Name(name) => {
                self.path(&[&names[..], &[name.ident.to_string()]].concat(), line)
            }
            UseTree::Rename(name) => {
                self.path(&[&names[..], &[name.ident.to_string()]].concat(), line);
            }
            UseTree::Glob(_) if !names.is_empty() => self.path(names, line),
            UseTree::Glob(_) => {}
        }
    }

    /// Notes the paths in the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut names: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_path(&mut names, line);
                        line = ident.span().start().line;
                    }
                    names.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_path(&mut names, line);
                    self.tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.end_path(&mut names, line);
                    colons = 0;
                }
            }
        }
        self.end_path(&mut names, line);
    }

    fn end_path(&mut self, names: &mut Vec<String>, line: usize) {
        if names.len() > 1 {
            self.path(names, line);
        }
        names.clear();
    }
}

/// Whether an item exists in tests only.
fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_of_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|one| one.ident.to_string()).collect();
        self.path(&names, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'ast Macro) {
        self.tokens(one.tokens.clone());
        visit::visit_macro(self, one);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

/// The module path of a file, which is named from `src` on.
fn module(file: &Path) -> Vec<String> {
    file.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect()
}

fn read(file: &Path, text: &str, rooms: &BTreeSet<String>) -> Reader {
    let module = module(file);
    let file = file.display().to_string();
    let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let arrows = BTreeSet::new();
    let paths = BTreeSet::new();
    let mut reader = Reader { file, module, rooms: rooms.clone(), arrows, paths };
    reader.visit_file(&parsed);
    reader
}

/// The imports of other rooms in a file.
fn arrows(file: &Path, text: &str, rooms: &BTreeSet<String>) -> BTreeSet<Arrow> {
    read(file, text, rooms).arrows
}

/// The modules that each file imports, without its ancestors and descendants.
fn imports(sources: &[(PathBuf, String)]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules: BTreeSet<_> = sources.iter().map(|(file, _)| module(file)).collect();
    let mut imports = BTreeMap::new();
    for (file, text) in sources {
        let from = module(file);
        let paths = read(file, text, &BTreeSet::new()).paths;
        let longest = |path: &Vec<String>| {
            let prefixes = (1..=path.len()).rev().map(|length| path[..length].to_vec());
            prefixes.into_iter().find(|prefix| modules.contains(prefix))
        };
        let to = paths.iter().filter_map(longest);
        let to = to.filter(|to| !to.starts_with(&from) && !from.starts_with(to)).collect();
        imports.insert(from, to);
    }
    imports
}

/// One circle of imports, if there is any: each module imports the next, and the last the first.
fn circle(imports: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> Option<Vec<String>> {
    let mut left = imports.clone();
    loop {
        let before = left.len();
        let modules: BTreeSet<_> = left.keys().cloned().collect();
        left.retain(|_, to| to.intersection(&modules).next().is_some());
        if left.len() == before {
            break;
        }
    }
    let mut path = vec![left.keys().next()?];
    loop {
        let last = path[path.len() - 1];
        let next = left[last].iter().find_map(|to| left.get_key_value(to))?.0;
        if let Some(start) = path.iter().position(|module| *module == next) {
            return Some(path[start..].iter().map(|module| module.join("/")).collect());
        }
        path.push(next);
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file below a folder that is not a test's, named from `src` on.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                files(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path.strip_prefix(source()).unwrap().to_owned());
        }
    }
}

fn all() -> (Vec<PathBuf>, BTreeSet<String>) {
    let mut found = Vec::new();
    files(&source(), &mut found);
    let room = |path: &PathBuf| {
        path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    let rooms = found.iter().map(room).collect();
    (found, rooms)
}

#[test]
fn no_room_imports_one_above_it() {
    let (files, rooms) = all();
    let mut upward = Vec::new();
    for file in files.iter().filter(|file| *file != Path::new("lib.rs")) {
        let text = fs::read_to_string(source().join(file)).unwrap();
        upward.extend(arrows(file, &text, &rooms).into_iter().filter(|arrow| !arrow.is_allowed()));
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let (files, _) = all();
    let text = |file: PathBuf| {
        let text = fs::read_to_string(source().join(&file)).unwrap();
        (file, text)
    };
    let sources: Vec<_> = files.into_iter().map(text).collect();
    assert_eq!(circle(&imports(&sources)), None);
}

#[test]
fn a_circle_is_found_however_long_it_is() {
    let of = |texts: &[(&str, &str)]| {
        let sources: Vec<_> =
            texts.iter().map(|(file, text)| (file.into(), (*text).to_owned())).collect();
        circle(&imports(&sources))
    };
    let a = ("token.rs", "mod plan; use plan::Plan;");
    let b = ("token/plan.rs", "use super::store::Store;");
    let c = ("token/store.rs", "fn f() { crate::clock::now(); }");
    let d = ("clock.rs", "use crate::token::plan::{self, Plan};");
    assert_eq!(of(&[a, b, c]), None, "without the last link");
    assert_eq!(of(&[a, b, d]), None, "without the second");
    let found = of(&[a, b, c, d]).unwrap();
    assert_eq!(found, ["clock", "token/plan", "token/store"]);
}

#[test]
fn every_room_has_its_floor_and_the_documentation_shows_the_same_plan() {
    let (_, rooms) = all();
    assert_eq!(rooms, FLOORS.map(str::to_owned).into());
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let plan = text.split("//! ```text\n").nth(1).unwrap().split("//! ```").next().unwrap();
    let shown =
        plan.lines().filter_map(|line| line.strip_prefix("//! ")?.split_whitespace().next());
    let shown: Vec<_> = shown.collect();
    let wanted: Vec<_> =
        FLOORS.into_iter().filter(|room| !["main", "lib"].contains(room)).rev().collect();
    assert_eq!(shown, wanted, "the top first, as one looks at a house");
}

#[test]
fn an_arrow_upward_is_found_however_it_is_written() {
    let rooms = FLOORS.map(str::to_owned).into();
    for text in [
        "use crate::proxy::Proxy;",
        "use crate::{error, proxy::{self, Table}};",
        "pub(crate) use crate::proxy as p;",
        "use super::super::proxy::*;",
        "fn f() { crate::proxy::g() }",
        "fn f(x: &crate::proxy::Table) {}",
        "impl From<crate::proxy::Table> for u8 {}",
        "mod inner { use super::super::super::proxy; }",
        "fn f() { println!(\"{}\", crate::proxy::NAME) }",
        "macro_rules! m { () => { $crate::proxy::g() } }",
        "#[serde(with = \"x\", default(crate::proxy::f))] struct S;",
    ] {
        let found = arrows(Path::new("token/store.rs"), text, &rooms);
        let is_found = found.iter().any(|arrow| arrow.to == "proxy" && !arrow.is_allowed());
        assert!(is_found, "{text}: {found:?}");
    }
    for text in [
        "use crate::error::ErrorKind;",
        "use super::plan::proxy;",
        "use crate::token::proxy;",
        "#[cfg(test)] mod tests { use crate::proxy; }",
        "fn proxy() { proxy::f() }",
    ] {
        let found = arrows(Path::new("token/store.rs"), text, &rooms);
        assert!(found.iter().all(Arrow::is_allowed), "{text}: {found:?}");
    }
}
