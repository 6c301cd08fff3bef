//! Which files belong to an environment, where they are searched, and the words for a path that is no
//! such file.

use std::{fs, os::unix::fs::symlink, path::Path};

use super::super::files::in_directory;
use super::super::reader::{Layer, Reader};
use super::super::yaml::{self, Leaves};
use super::super::{Config, error::ConfigError};
use super::{map, ms};

#[test]
fn the_files_of_the_repository_say_what_the_defaults_say() {
    let shown = |mut config: Config| {
        config.sources = Default::default();
        format!("{config:?}")
    };
    let defaults = shown(super::with(&[]).unwrap());
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for env in ["develop", "staging", "production"] {
        let mut config = Config::from_sources(env, &dir, &map(&[])).unwrap();
        assert!(config.sources.others.is_empty());
        if env == "develop" {
            assert_eq!(config.server.host, "localhost");
            assert_eq!(config.jobqueue.host, "localhost");
            config.server.host = "::".to_owned();
            config.jobqueue.host = "::".to_owned();
        }
        assert_eq!(shown(config), defaults, "{env}");
    }
}

#[test]
fn the_files_of_the_repository_hold_only_what_differs_from_the_defaults() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let defaults = format!("{:?}", Config::default());
    let mut differing = 0;
    for env in ["develop", "staging", "production"] {
        for path in in_directory(env, &dir).unwrap() {
            for (key, value) in yaml::read(&path).unwrap() {
                let name = path.display();
                let origin = name.to_string();
                let leaves = Leaves::from([(key.clone(), value)]);
                let mut reader = Reader::new(vec![Layer { origin, leaves }]);
                let config = Config::default().visit(&mut reader).unwrap();
                assert_ne!(format!("{config:?}"), defaults, "{name}: {key}");
                differing += 1;
            }
        }
    }
    assert_eq!(differing, 2);
}

#[test]
fn the_files_of_the_repository_stand_a_shorter_lease() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for env in ["develop", "staging", "production"] {
        let lease = map(&[("APP__JOBQUEUE__LEASE", "900ms")]);
        let config = Config::from_sources(env, &dir, &lease).unwrap();
        assert_eq!(config.jobqueue.worker.heartbeat(), ms(300));
        assert_eq!(config.jobqueue.worker.reclaim_interval(), ms(150));
    }
}

/// A directory with these files, each of this content.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("staging")).unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// The message for the environment staging in `dir`, with `DIR` for the directory.
fn refusal(dir: &Path) -> String {
    let error = Config::from_sources("staging", dir, &map(&[])).unwrap_err();
    error.to_string().replace(dir.to_str().unwrap(), "DIR")
}

#[test]
fn each_of_both_files_is_required() {
    let dir = directory(&[]);
    assert_eq!(
        refusal(dir.path()),
        "DIR/staging.yaml: file not found, expected the settings of APP_ENV=staging; create it \
         or DIR/staging/config.yaml, or let CONFIG_DIR name the directory that holds the files \
         (now DIR)"
    );
    fs::write(dir.path().join("staging.yaml"), "").unwrap();
    assert_eq!(
        refusal(dir.path()),
        "DIR/staging/cacheserver.yaml: file not found, expected the settings of \
         APP_ENV=staging; create it, or let CONFIG_DIR name the directory that holds the files \
         (now DIR)"
    );
}

#[test]
fn the_main_file_may_be_in_the_directory_of_its_environment() {
    let cacheserver = ("staging/cacheserver.yaml", "");
    let main = ("staging/config.yaml", "server: {port: 1}");
    let dir = directory(&[cacheserver, main]);
    let config = Config::from_sources("staging", dir.path(), &map(&[])).unwrap();
    assert_eq!(config.server.port, 1);
    assert_eq!(
        config.sources.files,
        [main.0, cacheserver.0].map(|file| dir.path().join(file))
    );
    assert_eq!(config.sources.directory.as_deref(), Some(dir.path()));
    assert_eq!(config.sources.environment, "staging");

    fs::write(dir.path().join("staging.yaml"), "").unwrap();
    assert_eq!(
        refusal(dir.path()),
        "DIR/staging.yaml and DIR/staging/config.yaml: found both files, expected one of them; \
         move the settings into one and remove the other"
    );
}

#[test]
fn the_files_of_the_go_system_work_as_they_are() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/go-system-config");
    let config = Config::from_sources("develop", &dir, &map(&[])).unwrap();
    assert_eq!((config.server.port, config.jobqueue.port), (18080, 18082));
    assert_eq!(config.server.http.read_timeout, ms(30_000));
    assert_eq!(config.server.http.idle_timeout, ms(120_000));
    assert_eq!(config.jobqueue.http.write_timeout, ms(30_000));
    assert_eq!(config.redis.addr, "localhost:6379");
    assert_eq!(config.redis.dial_timeout, ms(5_000));
    assert_eq!(config.cors.allowed_origins, ["http://localhost:3000"]);
    assert_eq!(config.cors.expose_headers, ["Location"]);
    assert_eq!(config.cors.allowed_methods.len(), 7);
    assert_eq!(
        config.sources.others,
        [
            "DB_TYPE",
            "admin",
            "api",
            "cache_server.redis.default",
            "email",
            "upload",
        ]
    );
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = directory(&[]);
    assert_eq!(
        refusal(Path::new("/nonexistent")),
        "CONFIG_DIR: found DIR, where nothing is, expected the directory that holds the \
         settings of APP_ENV=staging; create it, correct CONFIG_DIR or unset it"
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).starts_with("CONFIG_DIR: found DIR, which is no directory, expected "));
}

#[test]
fn a_path_that_is_no_file_of_settings_is_refused() {
    let main = "staging.yaml";
    let dir = directory(&[("staging/cacheserver.yaml", "")]);
    fs::create_dir(dir.path().join(main)).unwrap();
    assert_eq!(
        refusal(dir.path()),
        "DIR/staging.yaml: found a directory, expected a file with settings"
    );
    fs::remove_dir(dir.path().join(main)).unwrap();
    symlink("gone.yaml", dir.path().join(main)).unwrap();
    assert_eq!(
        refusal(dir.path()),
        "DIR/staging.yaml: found a symbolic link to gone.yaml, which is not there, expected a \
         file with settings"
    );
    fs::write(dir.path().join("gone.yaml"), "").unwrap();
    Config::from_sources("staging", dir.path(), &map(&[])).unwrap();
    fs::write(dir.path().join("gone.yaml"), "#".repeat((1 << 20) + 1)).unwrap();
    assert!(refusal(dir.path()).contains("more than 1 MiB"));
    fs::remove_file(dir.path().join(main)).unwrap();
    symlink("/dev/null", dir.path().join(main)).unwrap();
    assert!(refusal(dir.path()).contains("no regular file"));
}

#[test]
fn without_a_named_directory_the_first_that_has_a_file_is_used() {
    let file = ("staging.yaml", "server: {port: 1}");
    let cacheserver = ("staging/cacheserver.yaml", "");
    let (empty, full) = (directory(&[]), directory(&[file, cacheserver]));
    let nowhere = empty.path().join("nowhere");
    let load = |env: &str, searched: &[&Path]| Config::search(&map(&[("APP_ENV", env)]), searched);
    let searched = [nowhere.as_path(), empty.path(), full.path()];

    let config = load("staging\n", &searched).unwrap();
    assert_eq!(config.server.port, 1);
    assert_eq!(config.sources.directory.as_deref(), Some(full.path()));

    let config = load("production", &searched).unwrap();
    assert_eq!((config.server.port, config.sources.directory), (8080, None));
    assert!(config.sources.files.is_empty());
    assert_eq!(config.sources.environment, "production");

    // A directory with one of the two files is a mistake, wherever it is.
    for partly in [file, cacheserver, ("staging/config.yaml", "")] {
        let dir = directory(&[partly]);
        let error = load("staging", &[dir.path(), full.path()]).unwrap_err();
        assert!(matches!(error, ConfigError::Missing { .. }), "{error}");
    }
    let broken = directory(&[]);
    symlink("gone", broken.path().join("staging.yaml")).unwrap();
    load("staging", &[broken.path(), full.path()]).unwrap_err();
}

#[test]
fn a_named_directory_is_not_replaced_by_another() {
    let full = directory(&[("staging.yaml", ""), ("staging/cacheserver.yaml", "")]);
    let variables = map(&[("APP_ENV", "staging"), ("CONFIG_DIR", "/nonexistent")]);
    let error = Config::search(&variables, &[full.path()]).unwrap_err();
    assert!(matches!(error, ConfigError::Directory { .. }), "{error}");
    let dir = full.path().to_str().unwrap();
    let variables = map(&[("APP_ENV", "staging"), ("CONFIG_DIR", dir)]);
    Config::search(&variables, &[]).unwrap();
}

#[test]
fn an_unknown_environment_is_named() {
    for env in ["prod", "Develop", "dev"] {
        let error = Config::from_sources(env, Path::new("config"), &map(&[])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("APP_ENV: found \"{env}\", expected develop, staging or production")
        );
    }
}
