//! The settings of section `datazone`.

use serde::{Deserialize, Serialize};

use super::path;
use crate::record::limits::MAGNETIC_RETENTION_DAYS_MAX;

/// Settings of section `datazone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The entities that there are, each as `"domain/ASSET/entity"` or `"domain/LISTING/entity"`. Empty:
    /// an entity is known once something was posted to it. Any other is answered by 404.
    pub entities: Vec<String>,
    /// Most points that are stored, of all entities; 0 is no limit. Beyond it a Post is answered by 402,
    /// also where others are under way. Deleted points count until they have left the files.
    pub points_max: u64,
    /// How long a point is kept, counted from its own timestamp, 1 to 73,000 days; the most is for ever.
    /// A Post of an older one is answered by 400. Too low: points are gone sooner than their readers think.
    pub retention_days: u32,
    /// Most client tokens that are remembered for their 24 h, 1 to 100,000,000, at about 80 bytes each.
    /// Beyond it a Post with a new one is answered by 429. Too low: SDKs, which send one with each Post,
    /// are throttled. Too high: as much memory.
    pub tokens_max: usize,
}

const TOKENS_MAX: usize = 100_000_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            entities: Vec::new(),
            points_max: 0,
            retention_days: MAGNETIC_RETENTION_DAYS_MAX,
            tokens_max: 1_000_000,
        }
    }
}

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for entity in &self.entities {
            if path::listed(entity).is_none() {
                problems.push(format!(
                    "datazone.entities: {entity:?} is not of the form domain/ASSET/entity"
                ));
            }
        }
        if !(1..=MAGNETIC_RETENTION_DAYS_MAX).contains(&self.retention_days) {
            let found = self.retention_days;
            problems.push(format!(
                "datazone.retention_days: {found} is not in 1 to {MAGNETIC_RETENTION_DAYS_MAX}"
            ));
        }
        if !(1..=TOKENS_MAX).contains(&self.tokens_max) {
            let found = self.tokens_max;
            problems.push(format!("datazone.tokens_max: {found} is not in 1 to {TOKENS_MAX}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_setting_is_named() {
        assert_eq!(Options::default().problems(), Vec::<String>::new());
        let wrong = Options {
            entities: vec!["dzd_a/ASSET/e1".into(), "dzd_a/asset/e1".into(), "e1".into()],
            retention_days: 0,
            tokens_max: 0,
            ..Options::default()
        };
        assert_eq!(wrong.problems().len(), 4, "{:?}", wrong.problems());
    }
}
