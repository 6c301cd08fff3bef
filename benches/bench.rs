//! Runs the measurements: which figures the caller asked for, how often and at which size, and a
//! limit before each subject. It does not know what a figure means.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::redis::Redis;
use super::report::{Report, number};

const DEFAULT_RUNS: usize = 5;
/// A quick run divides all sizes by this.
const QUICK_DIVISOR: usize = 20;

/// One run of the bench, with what the caller asked for and what was measured so far.
pub(crate) struct Bench {
    names: Vec<String>,
    runs: usize,
    quick: bool,
    report: Report,
}

/// One figure, with the function that measures it. The function returns why it cannot measure, as
/// text.
pub(crate) struct Subject<'a> {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) measure: Box<dyn FnMut() -> Result<f64, String> + 'a>,
}

/// One measured value of a figure.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// The limit that the value is compared with, with its name.
    limit: Option<(String, f64)>,
}

impl Sample {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        let name = name.into();
        Self {
            name,
            unit,
            value,
            limit: None,
        }
    }

    /// Compares the value with a limit that was measured or computed beside it.
    pub(crate) fn of(self, name: impl Into<String>, limit: f64) -> Self {
        Self {
            limit: Some((name.into(), limit)),
            ..self
        }
    }
}

impl<'a> Subject<'a> {
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        mut measure: impl FnMut() -> f64 + 'a,
    ) -> Self {
        let measure = Box::new(move || Ok(measure()));
        let name = name.into();
        Self {
            name,
            unit,
            measure,
        }
    }
}

impl Bench {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let quick = std::env::var("BENCH_QUICK").is_ok_and(|quick| quick != "0");
        let runs =
            std::env::var("BENCH_RUNS").map(|runs| runs.parse().expect("BENCH_RUNS: a number"));
        Self {
            names,
            runs: runs.unwrap_or(if quick { 1 } else { DEFAULT_RUNS }).max(1),
            quick,
            report: Report::default(),
        }
    }

    /// The machine, the version of Redis and the number of runs, as text.
    pub(crate) fn describe(&self) -> String {
        let cpus = std::thread::available_parallelism().unwrap();
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("unknown", |model| {
            model.trim_start_matches([' ', '\t', ':'])
        });
        let redis = Redis::start().version();
        let quick = if self.quick {
            ", quick: sizes divided by 20, figures worthless"
        } else {
            ""
        };
        let runs = self.runs;
        format!("{cpus} x {model}, redis {redis} without persistence, runs: {runs}{quick}")
    }

    pub(crate) fn quick(&self) -> bool {
        self.quick
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs
    }

    /// `full`, or a twentieth of it in a quick run.
    pub(crate) fn size(&self, full: usize) -> usize {
        if self.quick {
            full.div_ceil(QUICK_DIVISOR)
        } else {
            full
        }
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// Whether the caller asked for this figure, or for figures whose names begin with this name.
    pub(crate) fn wants(&self, figure: &str) -> bool {
        let related = |name: &String| figure.starts_with(name.as_str()) || name.starts_with(figure);
        self.names.is_empty() || self.names.iter().any(related)
    }

    /// Whether the command line names this part, and does not just ask for everything.
    pub(crate) fn names(&self, part: &str) -> bool {
        self.names.iter().any(|name| name.starts_with(part))
    }

    /// Measures each subject, and the limit before each measurement of a subject.
    pub(crate) fn compare(&mut self, mut limit: Subject<'_>, mut subjects: Vec<Subject<'_>>) {
        subjects.retain(|subject| self.wants(&subject.name));
        for run in 1..=self.runs {
            if subjects.is_empty() && self.wants(&limit.name) {
                self.take(&mut limit, run);
            }
            for subject in &mut subjects {
                if self.report.is_absent(&subject.name) {
                    continue;
                }
                let bar = self.take(&mut limit, run);
                let value = self.take(subject, run);
                if let (Some(bar), Some(value)) = (bar, value) {
                    self.report.ratio(&subject.name, &limit.name, value / bar);
                }
            }
        }
    }

    /// Measures a figure that has no limit.
    pub(crate) fn repeat(&mut self, mut subject: Subject<'_>) {
        for run in 1..=self.runs {
            if self.wants(&subject.name) {
                self.take(&mut subject, run);
            }
        }
    }

    /// Measures several figures together, `runs` times. Their names begin with `name`.
    pub(crate) fn group(
        &mut self,
        name: &str,
        runs: usize,
        mut measure: impl FnMut() -> Vec<Sample>,
    ) {
        for run in 1..=runs {
            match catch_unwind(AssertUnwindSafe(&mut measure)) {
                Ok(samples) => {
                    for sample in samples {
                        self.record(sample, run);
                    }
                }
                Err(panic) => self.report.failed(name, panic_message(&*panic)),
            }
        }
    }

    fn record(&mut self, sample: Sample, run: usize) {
        let Sample {
            name,
            unit,
            value,
            limit,
        } = sample;
        let value_text = number(value);
        self.report.sample(&name, unit, value);
        let Some((limit_name, limit)) = limit else {
            eprintln!("{name}: {value_text} {unit} (run {run})");
            return;
        };
        let share = value / limit;
        let limit = number(limit);
        eprintln!("{name}: {value_text} {unit}, {share:.2} of {limit_name}, {limit} (run {run})");
        self.report.ratio(&name, &limit_name, share);
    }

    fn take(&mut self, subject: &mut Subject<'_>, run: usize) -> Option<f64> {
        let name = &subject.name;
        match catch_unwind(AssertUnwindSafe(&mut subject.measure)) {
            Ok(Ok(value)) => {
                self.record(Sample::new(name, subject.unit, value), run);
                return Some(value);
            }
            Ok(Err(why)) => self.report.absent(name, &why),
            Err(panic) => self.report.failed(name, panic_message(&*panic)),
        }
        None
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
