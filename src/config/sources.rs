//! Where the settings of a process come from, and the lines that say so at its start.

use std::path::PathBuf;

use tracing::info;

use super::Config;

/// The sources that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The environment that `APP_ENV` names.
    pub environment: String,
    /// The directory of the files; `None` when there were none and the defaults hold.
    pub directory: Option<PathBuf>,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// Sections and variables that are other programs' and were left alone; names only.
    pub others: Vec<String>,
}

impl Config {
    /// Logs what `program` starts with, before it connects or listens.
    pub fn log_start(&self, program: &str, version: &str) {
        let sources = &self.sources;
        let directory = sources.directory.as_ref().map(|dir| {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            dir.display().to_string()
        });
        info!(
            program,
            version,
            environment = sources.environment,
            config_dir = directory.as_deref().unwrap_or("none, defaults"),
            redis = self.redis.display_addr(),
            queue = self.jobqueue.queue,
            "starting"
        );
        if !sources.others.is_empty() {
            info!(
                names = sources.others.join(", "),
                "left alone settings of other programs"
            );
        }
    }
}
