//! Judges the index settings that decide how safe a write is.

use std::time::Duration;

use crate::observe::finding::Check;
use crate::sink::elasticsearch::flat::Values;
use crate::sink::elasticsearch::load_settings::is_tuned;

/// Elasticsearch's default of `index.gc_deletes`.
const DEFAULT_GC_DELETES: Duration = Duration::from_secs(60);

/// Below this, the time between the look-up of tombstones and the write that relies on it is too short.
const SHORT_GC_DELETES: Duration = Duration::from_secs(10);

/// Blocks, each with the requests that it refuses.
const BLOCKS: [(&str, &str); 4] = [
    ("read_only", "writes"),
    ("read_only_allow_delete", "writes"),
    ("write", "writes"),
    ("read", "look-ups"),
];

/// What OpenSearch sets for a searchable snapshot, which takes no writes although its settings show no block.
const SEARCHABLE_SNAPSHOT: &str = "index.store.type: remote_snapshot";

/// Ingest pipelines by name, each with the term for its setting.
pub(super) type Pipelines = Vec<(&'static str, String)>;

const PIPELINES: [(&str, &str); 2] =
    [("default pipeline", "index.default_pipeline"), ("final pipeline", "index.final_pipeline")];

/// The relevant settings of one concrete index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexSettings {
    /// How long the versions of deleted documents are remembered.
    pub(super) gc_deletes: Duration,
    /// Whether writes are acknowledged before they are synced.
    pub(super) durability_async: bool,
    pub(super) uuid: Option<String>,
    /// When the index was created, in milliseconds since 1970.
    pub(super) created: Option<i64>,
    /// A block that prevents writes until somebody removes it. (The block of a full disk is lifted automatically.)
    pub(super) block: Option<&'static str>,
    /// Whether `--bulk-load-settings` has set them.
    pub(super) tuned: bool,
    /// Whether fields keep malformed values without indexing them, unless their mapping says otherwise.
    pub(super) ignores_malformed: bool,
    /// Ingest pipelines that documents go through.
    pub(super) pipelines: Pipelines,
    /// Notes for users.
    pub(super) checks: Vec<Check>,
}

/// Judges the `settings` of an index. `defaults` has the values of those that are not set.
pub(super) fn judge(index: &str, settings: &Values, defaults: &Values) -> IndexSettings {
    let setting = |name: &str| settings.get(name).or_else(|| defaults.get(name)).map(String::as_str);
    let mut checks = Vec::new();

    let gc_deletes = setting("index.gc_deletes").map_or(Some(DEFAULT_GC_DELETES), parse_time);
    let gc_deletes = gc_deletes.unwrap_or_default();
    if gc_deletes < SHORT_GC_DELETES {
        let text =
            format!("{index} forgets deletes after {gc_deletes:?}: set index.gc_deletes to 60s or more");
        checks.push(Check::warning("settings", text));
    }
    for (block, refused) in BLOCKS {
        if setting(&format!("index.blocks.{block}")) == Some("true") {
            let text =
                format!("{index} has the block index.blocks.{block}: {refused} wait until it is removed");
            checks.push(Check::warning("settings", text));
        }
    }
    checks.extend(judge_closed(index, settings));
    // An unknown value counts as the worst case.
    let durability = setting("index.translog.durability").unwrap_or("async");
    let is_snapshot = setting("index.store.type") == Some("remote_snapshot");
    if is_snapshot {
        let text = format!("{index} is a searchable snapshot ({SEARCHABLE_SNAPSHOT}): it takes no writes");
        checks.push(Check::warning("settings", text));
    }
    let block = ["index.blocks.read_only", "index.blocks.write"]
        .into_iter()
        .find(|block| setting(block) == Some("true"))
        .or(is_snapshot.then_some(SEARCHABLE_SNAPSHOT));
    let pipeline = |(name, setting_name)| {
        let pipeline = setting(setting_name).filter(|pipeline| !["", "_none"].contains(pipeline))?;
        Some((name, pipeline.to_owned()))
    };
    IndexSettings {
        tuned: is_tuned(settings),
        ignores_malformed: setting("index.mapping.ignore_malformed") == Some("true"),
        pipelines: PIPELINES.into_iter().filter_map(pipeline).collect(),
        gc_deletes,
        durability_async: durability.eq_ignore_ascii_case("async"),
        uuid: setting("index.uuid").map(str::to_owned),
        created: setting("index.creation_date").and_then(|millis| millis.parse().ok()),
        block,
        checks,
    }
}

/// Fails if an index is closed: it can be neither written to nor read.
pub(super) fn judge_closed(index: &str, settings: &Values) -> Option<Check> {
    let is_closed = settings.get("index.verified_before_close").is_some_and(|value| value == "true");
    is_closed.then(|| Check::failed("settings", format!("{index} is closed: open it")))
}

/// Returns the notes about an index that is no longer written to. A block there prevents only deletes.
pub(super) fn of_older(name: &str, index: &str, settings: IndexSettings) -> Vec<Check> {
    let Some(block) = settings.block else { return settings.checks };
    let text = format!(
        "{index}, an older index behind {name}, has the block {block}: a delete of a post in it is \
         rejected; remove the block, or remove the index from the alias"
    );
    let others = settings.checks.into_iter().filter(|check| !check.text.contains(block));
    others.chain([Check::warning("settings", text)]).collect()
}

/// Replaces the default pipeline with the one that requests name, as with `--pipeline`.
pub(super) fn name_pipeline(pipelines: &mut Pipelines, named: &str) {
    pipelines.retain(|(setting, _)| *setting != "default pipeline");
    if named != "_none" {
        pipelines.push(("pipeline by --pipeline", named.to_owned()));
    }
}

/// Returns the warning about an index that is tuned for a load and that this run does not restore.
pub(super) fn judge_tuned(index: &str) -> Check {
    let text = format!(
        "{index} has the settings of a load with --bulk-load-settings, such as no replicas: such a load \
         with another state file is running, or was killed; run once with that state file, or set \
         index.refresh_interval, index.number_of_replicas, index.translog.durability and \
         index.translog.sync_interval by hand"
    );
    Check::warning("load settings", text)
}

/// Parses a time value of Elasticsearch, such as `60s`. A negative one is zero. None: it cannot be parsed.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.trim().find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.trim().len());
    let (number, unit) = text.trim().split_at(digits);
    let number = u64::try_from(number.parse::<i64>().ok()?).unwrap_or(0);
    Some(match unit {
        "nanos" => Duration::from_nanos(number),
        "micros" => Duration::from_micros(number),
        // A bare number is 0 or -1: Elasticsearch requires a unit for all others.
        "ms" | "" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3_600)?),
        "d" => Duration::from_secs(number.checked_mul(86_400)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::finding::Status;
    use crate::sink::elasticsearch::flat::flatten;

    fn judge(index: &str, settings: &Value, defaults: &Value) -> IndexSettings {
        super::judge(index, &flatten(settings), &flatten(defaults))
    }

    #[test]
    fn time_values_have_elasticsearchs_units() {
        for (text, expected) in [
            ("60s", Some(Duration::from_secs(60))),
            ("1500ms", Some(Duration::from_millis(1500))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("1d", Some(Duration::from_secs(86_400))),
            ("7micros", Some(Duration::from_micros(7))),
            ("0", Some(Duration::ZERO)),
            ("-1", Some(Duration::ZERO)),
            ("9223372036854775807d", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }

    #[test]
    fn a_set_value_wins_over_the_default() {
        let defaults = json!({"index": {"gc_deletes": "60s", "translog": {"durability": "REQUEST"}}});
        let set = json!({"index": {"gc_deletes": "5m", "translog": {"durability": "async"}}});
        let plain = judge("posts", &json!({}), &defaults);
        assert_eq!((plain.gc_deletes.as_secs(), plain.durability_async, plain.checks.len()), (60, false, 0));
        let other = judge("posts", &set, &defaults);
        assert_eq!((other.gc_deletes.as_secs(), other.durability_async, other.checks.len()), (300, true, 0));
        assert_eq!(judge("posts", &json!(null), &json!(null)).gc_deletes, DEFAULT_GC_DELETES);
    }

    #[test]
    fn a_block_is_a_warning_and_a_closed_index_is_refused() {
        let blocked = judge("posts_v1", &json!({"index": {"blocks": {"write": "true"}}}), &json!({}));
        assert_eq!(blocked.checks.len(), 1);
        assert_eq!(blocked.checks[0].status, Status::Warning);
        assert!(
            blocked.checks[0].text.contains("posts_v1") && blocked.checks[0].text.contains("blocks.write")
        );
        let unread = judge("posts_v1", &json!({"index": {"blocks": {"read": "true"}}}), &json!({}));
        assert!(unread.checks[0].text.contains("look-ups wait") && unread.block.is_none());
        let snapshot =
            judge("posts_v1", &json!({"index": {"store": {"type": "remote_snapshot"}}}), &json!({}));
        assert!(snapshot.checks[0].text.contains("takes no writes"));
        let older = of_older("posts", "posts_v1", snapshot);
        assert!(
            older.len() == 1
                && older[0].text.contains("remote_snapshot: a delete of a post in it is rejected")
        );
        let closed = judge("posts_v1", &json!({"index": {"verified_before_close": "true"}}), &json!({}));
        assert_eq!(closed.checks[0].status, Status::Failed);
    }

    #[test]
    fn the_pipelines_of_an_index_and_the_settings_of_a_load_are_seen() {
        let set = json!({"index": {"default_pipeline": "a", "final_pipeline": "_none", "refresh_interval": "29999ms"}});
        let settings = judge("posts", &set, &json!({}));
        assert_eq!(settings.pipelines, [("default pipeline", "a".to_owned())]);
        let mut pipelines = settings.pipelines.clone();
        name_pipeline(&mut pipelines, "b");
        assert_eq!(pipelines, [("pipeline by --pipeline", "b".to_owned())]);
        name_pipeline(&mut pipelines, "_none");
        assert!(settings.tuned && !judge("posts", &json!({}), &json!({})).tuned);
    }

    #[test]
    fn a_short_or_unknown_gc_deletes_is_a_warning() {
        for text in ["1s", "0", "soon"] {
            let settings = judge("posts", &json!({"index": {"gc_deletes": text}}), &json!({}));
            assert_eq!(settings.checks[0].status, Status::Warning, "{text}");
        }
    }
}
