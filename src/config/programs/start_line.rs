//! The line that says with which settings a program starts.

use tracing::info;

use super::sections::Config;

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
            queue = self.jobqueue.worker.queue,
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
