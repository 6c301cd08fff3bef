//! The dependencies keep the rules of `deny.toml`. cargo-deny checks the same file on all platforms,
//! with the advisories of RustSec too, but it takes minutes to build. These tests look only at the
//! crates that this machine has compiled, so they need no network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use spdx::{Expression, ParseMode};

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Named>,
    deny: Vec<Named>,
}

/// One crate: `syn`, or `syn@2` for its versions that begin with 2.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

impl Named {
    fn is(&self, package: &Value) -> bool {
        let (name, version) = self.name.split_once('@').unwrap_or((&self.name, ""));
        let found = package["version"].as_str().unwrap();
        let same_version = version.is_empty() || found.starts_with(&format!("{version}."));
        package["name"] == name && same_version
    }
}

fn rules() -> Rules {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// What cargo knows of the packages that are compiled on this platform.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "host-tuple"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The packages, without the project itself.
fn dependencies(metadata: &Value) -> Vec<&Value> {
    let packages = metadata["packages"].as_array().unwrap().iter();
    let packages: Vec<_> = packages.filter(|p| !p["source"].is_null()).collect();
    assert!(packages.len() > 100, "{} packages", packages.len());
    packages
}

fn named(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap().to_owned();
    format!("{} {}", text("name"), text("version"))
}

#[test]
fn every_licence_is_one_that_is_allowed() {
    let allowed = rules().licenses.allow;
    let metadata = metadata();
    for package in dependencies(&metadata) {
        let licence = package["license"].as_str().unwrap_or_default();
        // Old crates write `MIT/Apache-2.0`.
        let expression = Expression::parse_mode(licence, ParseMode::LAX);
        let expression = expression.unwrap_or_else(|why| panic!("{}: {why}", named(package)));
        let is_allowed = expression.evaluate(|required| allowed.contains(&required.to_string()));
        assert!(is_allowed, "{}: {licence}", named(package));
    }
}

#[test]
fn no_banned_crate_is_used() {
    let rules = rules();
    let metadata = metadata();
    for package in dependencies(&metadata) {
        let ban = rules.bans.deny.iter().find(|ban| ban.is(package));
        let reason = ban.map(|ban| &ban.reason);
        assert_eq!(reason, None, "{} is banned", named(package));
    }
}

#[test]
fn every_crate_comes_from_crates_io() {
    let metadata = metadata();
    for package in dependencies(&metadata) {
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        assert_eq!(package["source"], source, "{}", named(package));
    }
}

#[test]
fn no_crate_needs_a_newer_rust_than_the_project() {
    let own = version(env!("CARGO_PKG_RUST_VERSION"));
    let metadata = metadata();
    for package in dependencies(&metadata) {
        let needed = package["rust_version"].as_str().map_or(vec![], version);
        assert!(needed <= own, "{} needs {needed:?}", named(package));
    }
}

/// The first two numbers, since `1.91` is as good as `1.91.0`.
fn version(text: &str) -> Vec<u32> {
    let parts = text.split('.').take(2);
    parts.map(|part| part.parse().unwrap()).collect()
}

#[test]
fn a_crate_is_in_the_programs_in_two_versions_only_for_a_reason() {
    let rules = rules();
    let metadata = metadata();
    let ids = ids_in_the_programs(&metadata);
    let mut versions: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for package in dependencies(&metadata) {
        let is_skipped = rules.bans.skip.iter().any(|skip| skip.is(package));
        if ids.contains(package["id"].as_str().unwrap()) && !is_skipped {
            let name = package["name"].as_str().unwrap();
            versions.entry(name).or_default().push(package);
        }
    }
    for same in versions.values() {
        let same: Vec<_> = same.iter().map(|package| named(package)).collect();
        assert_eq!(same.len(), 1, "{same:?}");
    }
}

#[test]
fn a_program_that_embeds_the_library_compiles_nothing_of_the_programs() {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--no-default-features", "--edges", "normal"])
        .args([
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--locked",
            "--offline",
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains("redis"), "{tree}");
    for program in ["axum", "clap", "config", "hyper", "tracing-subscriber"] {
        assert!(!names.contains(program), "{program} in\n{tree}");
    }
}

/// The packages that the programs and their build need: all but those that only tests need.
fn ids_in_the_programs(metadata: &Value) -> BTreeSet<&str> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut found = BTreeSet::new();
    let mut next = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = next.pop() {
        if !found.insert(id) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id).unwrap();
        for dependency in node["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"] != "dev") {
                next.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    found
}
