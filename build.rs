//! Tells the programs which commit they were built from, for `--version` and the start line,
//! and links `stdout.c` to them.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/stdout.c");
    if std::env::var_os("CARGO_FEATURE_PROGRAMS").is_some() {
        for object in cc::Build::new()
            .file("src/stdout.c")
            .compile_intermediates()
        {
            println!("cargo:rustc-link-arg-bins={}", object.display());
        }
    }
    let commit = commit();
    println!(
        "cargo:rustc-env=COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
}

/// None without git, and in an unpacked archive, even one that lies within another repository.
fn commit() -> Option<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()?;
    let root = Path::new(&git(&["rev-parse", "--show-toplevel"])?)
        .canonicalize()
        .ok()?;
    if here != root {
        return None;
    }
    // Where HEAD points to, and what that branch points to, packed or not.
    for file in ["HEAD", "refs/heads", "packed-refs"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        // Cargo builds again each time when it watches what does not exist.
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
