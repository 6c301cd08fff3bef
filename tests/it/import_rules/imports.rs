//! Reads from the tokens of a crate's sources which files name which others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The files of a crate by their module path, such as `service::jobqueue::job`. The root is "".
pub(super) struct Sources(BTreeMap<String, String>);

/// All files with Rust code below `folder`, with their texts.
pub(super) fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files
}

impl Sources {
    pub(super) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(files.into_iter().collect())
    }

    /// Reads the library's files, without the programs and without files that contain only tests.
    pub(super) fn read(src: &Path) -> Self {
        let files = files(src).into_iter().filter_map(|(path, text)| {
            let path = path.strip_prefix(src).unwrap().with_extension("");
            let mut names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
            if names[0] == "bin" || names.contains(&"tests") {
                return None;
            }
            names.pop_if(|last| matches!(*last, "mod" | "lib"));
            Some((names.join("::"), text))
        });
        Self::new(files)
    }

    /// For each file, the files that it names, and the other crates that it names as `crate NAME`.
    pub(super) fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut imports = BTreeMap::new();
        let mut test_modules = Vec::new();
        for (module, text) in &self.0 {
            let tokens: TokenStream = text.parse().unwrap();
            let mut found = Found::default();
            let scope: Vec<_> = module
                .split("::")
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect();
            collect(tokens, &scope, &mut found);
            let named = found.paths.iter();
            let named = named.filter_map(|path| self.resolve(module, path));
            let named: BTreeSet<String> = named.filter(|name| name != module).collect();
            imports.insert(module.clone(), named);
            test_modules.append(&mut found.test_modules);
        }
        imports.retain(|module, _| !test_modules.iter().any(|room| is_in(module, room)));
        imports
    }

    /// The file that a path in `module` leads to. It is the longest beginning of the path that is a
    /// module. A path without `crate`, `self` or `super` leads to a child of the module or to
    /// another crate.
    fn resolve(&self, module: &str, path: &NamedPath) -> Option<String> {
        match path {
            NamedPath::Here(path) => (0..=path.len())
                .rev()
                .map(|length| path[..length].join("::"))
                .find(|module| self.0.contains_key(module)),
            NamedPath::Crate(name) => {
                let child = format!("{module}::{name}");
                let is_child = self.0.contains_key(&child);
                Some(if is_child {
                    child
                } else {
                    format!("crate {name}")
                })
            }
        }
    }
}

/// Whether the module `path` is `room` or inside it.
pub(super) fn is_in(path: &str, room: &str) -> bool {
    let rest = path.strip_prefix(room);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The paths and test modules that the tokens of a file contain.
#[derive(Default)]
struct Found {
    paths: Vec<NamedPath>,
    /// Modules in files of their own that exist only for tests.
    test_modules: Vec<String>,
}

enum NamedPath {
    /// A path in this crate, from its root.
    Here(Vec<String>),
    /// Only the first word of a path, where it may be another crate.
    Crate(String),
}

/// Collects the paths in `tokens`. The tokens are in the module `scope`.
fn collect(tokens: TokenStream, scope: &[String], found: &mut Found) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(word) if word == "mod" => {
                let name = tokens
                    .get(at + 1)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let inner = [scope, &[name]].concat();
                let for_tests = is_for_tests(&tokens[..at]);
                if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                    if !for_tests {
                        collect(body.stream(), &inner, found);
                    }
                    at += 2;
                } else if for_tests {
                    found.test_modules.push(inner.join("::"));
                }
            }
            // `impl Trait + use<>` names captures, and is not an import.
            TokenTree::Ident(word) if word == "use" && is_at(&tokens, at + 1, '<') => {}
            TokenTree::Ident(word) if word == "use" => {
                let end = (at..tokens.len())
                    .find(|end| is(&tokens[*end], ';'))
                    .unwrap();
                // `pub use self::child::Name` only exports a name that the child defines.
                let from_child = tokens
                    .get(at + 1)
                    .is_some_and(|word| word.to_string() == "self");
                if !(from_child && is_public(&tokens[..at])) {
                    use_tree(&tokens[at + 1..end], &[], scope, &mut found.paths);
                }
                at = end;
            }
            TokenTree::Ident(_) if at == 0 || !is_path_separator(&tokens[..at]) => {
                let (words, next) = words(&tokens, at);
                if words.len() > 1 {
                    name(&words, scope, &mut found.paths);
                }
                at = next - 1;
            }
            // `::redis::cmd` begins at the root of all crates.
            TokenTree::Ident(word) if !follows_a_name(&tokens[..at]) => {
                found.paths.push(NamedPath::Crate(word.to_string()));
            }
            TokenTree::Group(group) => collect(group.stream(), scope, found),
            _ => {}
        }
        at += 1;
    }
}

/// Collects the paths of a use tree such as `a::b::{c, d::e}`, which come after `prefix`.
fn use_tree(tokens: &[TokenTree], prefix: &[String], scope: &[String], paths: &mut Vec<NamedPath>) {
    let mut words = prefix.to_vec();
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == "as" => break,
            TokenTree::Ident(word) => words.push(word.to_string()),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                for tree in branches(group) {
                    use_tree(&tree, &words, scope, paths);
                }
                return;
            }
            _ => {}
        }
    }
    name(&words, scope, paths);
}

fn branches(group: &Group) -> Vec<Vec<TokenTree>> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let branches = tokens.split(|token| is(token, ','));
    branches
        .filter(|tokens| !tokens.is_empty())
        .map(<[_]>::to_vec)
        .collect()
}

/// The words of the path that begins at `at`, and the position after it.
fn words(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut words = vec![tokens[at].to_string()];
    at += 1;
    while let [first, second, TokenTree::Ident(word), ..] = &tokens[at..]
        && is(first, ':')
        && is(second, ':')
    {
        words.push(word.to_string());
        at += 3;
    }
    (words, at)
}

fn name(words: &[String], scope: &[String], paths: &mut Vec<NamedPath>) {
    let Some((first, rest)) = words.split_first() else {
        return;
    };
    let mut path = match first.as_str() {
        "crate" => Vec::new(),
        "self" => scope.to_vec(),
        "super" => scope[..scope.len().saturating_sub(1)].to_vec(),
        other => return paths.push(NamedPath::Crate(other.to_owned())),
    };
    for word in rest {
        match word.as_str() {
            "super" => drop(path.pop()),
            "self" => {}
            word => path.push(word.to_owned()),
        }
    }
    paths.push(NamedPath::Here(path));
}

/// Whether the item after the tokens `before` is under `#[cfg(test)]`.
fn is_for_tests(before: &[TokenTree]) -> bool {
    let attributes = before.iter().rev().take_while(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Bracket,
        TokenTree::Punct(punct) => punct.as_char() == '#',
        _ => false,
    });
    attributes
        .into_iter()
        .any(|token| token.to_string().replace(' ', "") == "[cfg(test)]")
}

/// Whether `before` ends with `pub` or `pub(...)`.
fn is_public(before: &[TokenTree]) -> bool {
    let before = match before {
        [before @ .., TokenTree::Group(group)] if group.delimiter() == Delimiter::Parenthesis => {
            before
        }
        before => before,
    };
    before.last().is_some_and(|word| word.to_string() == "pub")
}

fn is_path_separator(before: &[TokenTree]) -> bool {
    matches!(before, [.., first, second] if is(first, ':') && is(second, ':'))
}

fn follows_a_name(before: &[TokenTree]) -> bool {
    let name = before.len().checked_sub(3).map(|at| &before[at]);
    name.is_some_and(|token| matches!(token, TokenTree::Ident(_)) || is(token, '>'))
}

fn is_at(tokens: &[TokenTree], at: usize, character: char) -> bool {
    tokens.get(at).is_some_and(|token| is(token, character))
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}
