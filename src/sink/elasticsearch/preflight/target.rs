//! Looks up and judges the indices behind a name that is written to.

use std::time::Duration;

use serde_json::Value;

use super::probe::{self, Probe};
use super::{Needs, fields, privileges, settings};
use crate::model::FieldChoice;
use crate::model::schema::{TOMBSTONE_FIELDS, kinds, post_fields};
use crate::observe::finding::{Check, Status};
use crate::sink::elasticsearch::answer::NoAnswer;
use crate::sink::elasticsearch::client::Client;
use crate::sink::elasticsearch::flat::Values;
use crate::sink::elasticsearch::lookup::{self, Alias, Index, Indices};
use crate::sink::elasticsearch::mapping;
use crate::sink::elasticsearch::product::Product;
use crate::sink::elasticsearch::returned::Returned;
use crate::sink::elasticsearch::targets::{Member, Target};

/// Looks up the indices behind a name, and judges them.
pub(super) fn ask(
    client: &Client,
    name: &'static str,
    needs: Needs,
) -> Result<(Target, Vec<Check>), NoAnswer> {
    let indices = match lookup::ask(client, name)? {
        Some(indices) if indices.is_empty() && needs.create => return Err(mapping::not_shown(client, name)),
        Some(indices) => indices,
        // No target exists yet.
        None if needs.create => return Err(NoAnswer::Refused(vec![judge_creation(client, name, needs)?])),
        None => {
            let text = format!("there is no index or alias {name}: create it, or run with --create-indices");
            return Err(NoAnswer::refused(name, text));
        }
    };
    let created = indices.values().filter_map(|index| index.settings.as_ref()?.get("index.version.created"));
    created
        .filter_map(|version| Product::of_version(version))
        .for_each(|product| client.set_product(product));
    let (mut target, mut checks) = judge(name, &indices, needs, client.product())?;
    if needs.reads_only {
        if !target.is_known {
            let resolved = lookup::resolve(client, name)?;
            target.members = resolved.iter().map(|index| Member::unknown(index)).collect();
        }
        // A run that only reads does not care whether documents could be written.
        checks.retain(|check| check.status == Status::Ok);
        let closed =
            |(index, found): (&String, &Index)| settings::judge_closed(index, found.settings.as_ref()?);
        checks.extend(indices.iter().filter_map(closed));
    } else {
        if !target.is_known {
            lookup::refuse_several(client, name)?;
        }
        if needs.offer {
            checks.extend(offer(client, &target, &indices, needs)?);
        }
    }
    Ok((target, checks))
}

/// Sends the server a document to judge, unless something must be fixed first.
fn offer(client: &Client, target: &Target, indices: &Indices, needs: Needs) -> Result<Vec<Check>, NoAnswer> {
    let is_tombstones = target.name == needs.names.tombstones;
    let offers_base64 = needs.base64 && !is_tombstones;
    let (mut checks, mut takes_base64) = (Vec::new(), None);
    if let Some(found) = indices.get(&target.write_index)
        && let Some(set) = &found.settings
    {
        let mut settings = settings::judge(&target.write_index, set, &Values::new());
        if let Some(pipeline) = needs.pipeline {
            settings::name_pipeline(&mut settings.pipelines, pipeline);
        }
        checks = probe::judge_pipelines(client, is_tombstones, &target.write_index, &settings.pipelines)?;
        // A pipeline may send the document to another index, which the server would create unless an alias is required.
        let may_go_elsewhere = !settings.pipelines.is_empty() && !target.is_alias();
        let has_block = settings.checks.iter().any(|check| check.text.contains("index.blocks."));
        let is_blocked = settings.block.is_some() || has_block;
        if !may_go_elsewhere && !is_blocked && checks.iter().all(|check| check.status != Status::Failed) {
            let fields = sent(is_tombstones, needs.names.fields);
            let probe = Probe { client, target, index: found, needs, fields };
            // An alias with routing ignores that of a document.
            checks.extend(probe.offer(!settings.pipelines.is_empty() && target.routing.is_none()));
            takes_base64 = offers_base64.then(|| probe.offer_base64()).flatten();
        }
    }
    checks.extend(offers_base64.then(|| probe::judge_base64(target, takes_base64)));
    Ok(checks)
}

/// Judges whether `--create-indices` could create what is missing. Creates nothing.
fn judge_creation(client: &Client, name: &'static str, needs: Needs) -> Result<Check, NoAnswer> {
    let index = mapping::index_name_for(name);
    if lookup::ask_about(client, name, &index)?.is_some_and(|found| !found.is_empty()) {
        return Err(mapping::without_alias(name, &index));
    }
    let grants = privileges::ask(client, &[name, &index])?;
    match grants.judge_creation(name, &index) {
        Some(lacking) => Ok(lacking),
        None => mapping::try_to_create(client, needs.names, name),
    }
}

pub(super) fn judge(
    name: &'static str,
    indices: &Indices,
    needs: Needs,
    product: Product,
) -> Result<(Target, Vec<Check>), NoAnswer> {
    if indices.is_empty() {
        let text = format!(
            "this server does not show this key whether {name} exists and has the right mapping; the run \
             assumes so: make sure of that, or {}",
            product.grant("view_index_metadata")
        );
        return Ok((Target::unknown(name), vec![Check::warning(name, text)]));
    }
    let write_index = match write_index(name, indices) {
        // An alias for searches needs no write index.
        Err(_) if needs.reads_only && indices.values().all(|found| alias(name, found).is_some()) => {
            indices.keys().next_back().cloned().unwrap_or_default()
        }
        found => found?,
    };
    let routing = indices.values().find_map(|found| alias(name, found)?.index_routing.clone());
    let mut checks = vec![judge_indices(name, &write_index, indices.len(), routing.is_some())?];
    let judge_author =
        |(index, found): (&String, &Index)| fields::judge_author(index, found.mappings.as_ref()?);
    let mut target = Target {
        members: Vec::with_capacity(indices.len()),
        is_known: true,
        gc_deletes: Duration::MAX,
        durability_async: false,
        unsearchable: indices.iter().filter_map(judge_author).collect(),
        hides_documents: indices.values().filter_map(|found| alias(name, found)).any(Alias::hides_documents),
        routing,
        ..Target::unknown(name)
    };
    let mut ignores_malformed = false;
    for (index, found) in indices {
        let mut member = Member::unknown(index);
        if let Some(mappings) = &found.mappings {
            // An alias with routing provides it itself, and refuses any other.
            let is_routed = alias(name, found).is_some_and(|alias| alias.index_routing.is_some());
            member.requires_routing = !is_routed && fields::requires_routing(mappings);
            member.returned = Returned::of(mappings, found.settings.as_ref());
        }
        if let Some(set) = &found.settings {
            let settings = settings::judge(index, set, found.defaults.as_ref().unwrap_or(&Values::new()));
            target.gc_deletes = target.gc_deletes.min(settings.gc_deletes);
            target.durability_async |= settings.durability_async;
            checks.extend((settings.tuned && !needs.manage).then(|| settings::judge_tuned(index)));
            member.uuid = settings.uuid.clone();
            member.created = settings.created;
            member.block = settings.block;
            checks.extend(if *index == write_index {
                ignores_malformed = settings.ignores_malformed;
                settings.checks
            } else {
                settings::of_older(name, index, settings)
            });
        } else {
            checks.push(not_shown("settings", index, product));
            target.gc_deletes = Duration::ZERO;
            target.durability_async = true;
        }
        target.members.push(member);
    }
    let mappings = indices.get(&write_index).and_then(|found| found.mappings.as_ref());
    let (mapping_checks, dense_vectors) = match mappings {
        Some(mappings) if ignores_malformed => {
            judge_mapping(needs, name, &write_index, &fields::ignoring_malformed(mappings), product)
        }
        Some(mappings) => judge_mapping(needs, name, &write_index, mappings, product),
        None => (vec![not_shown("mapping", &write_index, product)], false),
    };
    checks.extend(mapping_checks);
    Ok((Target { write_index, dense_vectors, ..target }, checks))
}

fn not_shown(what: &'static str, index: &str, product: Product) -> Check {
    let text = format!(
        "this server does not show the {what} of {index}, which counts as the worst case: make sure that it is as \
         documented, or {}",
        product.grant("view_index_metadata")
    );
    Check::warning(what, text)
}

/// Returns the concrete index that takes new documents under a name.
fn write_index(name: &'static str, indices: &Indices) -> Result<String, NoAnswer> {
    let refused = |text: &str| Err(NoAnswer::refused(name, format!("{name} {text}")));
    if indices.contains_key(name) {
        return Ok(name.to_owned());
    }
    // If the server shows no aliases, a single index takes the writes, unless it belongs to a data stream.
    if let Some((index, Index { aliases: None, .. })) = indices.first_key_value()
        && indices.len() == 1
        && !index.starts_with(".ds-")
    {
        return Ok(index.clone());
    }
    let flags: Vec<_> = indices
        .iter()
        .filter_map(|(index, found)| Some((index, alias(name, found)?.is_write_index)))
        .collect();
    let marked: Vec<_> = flags.iter().filter(|(_, flag)| *flag == Some(true)).collect();
    match (flags.as_slice(), marked.as_slice()) {
        ([], _) if indices.len() > 1 && indices.values().all(|found| found.aliases.is_none()) => refused(
            "has several indices, but the server does not show which of them accepts writes: name one",
        ),
        ([], _) => refused(
            "is a data stream, which does not accept external versions: use an index or an alias of one",
        ),
        ([(index, None)], _) | (_, [(index, _)]) => Ok((*index).clone()),
        _ => refused("is an alias without a write index: mark one of its indices with is_write_index"),
    }
}

fn alias<'a>(name: &str, found: &'a Index) -> Option<&'a Alias> {
    found.aliases.as_ref()?.get(name)
}

/// Reports several indices behind one name, since ids and versions are unique only per concrete index.
fn judge_indices(
    name: &'static str,
    write_index: &str,
    count: usize,
    has_routing: bool,
) -> Result<Check, NoAnswer> {
    if count == 1 {
        let through = if name == write_index { "an index" } else { "an alias of one index" };
        if has_routing {
            let text = format!(
                "{through} with routing, writes go to {write_index}: deletes miss posts that were written without that \
                 routing, for example before it was set"
            );
            return Ok(Check::warning(name, text));
        }
        return Ok(Check::ok(name, format!("{through}, writes go to {write_index}")));
    }
    if has_routing {
        let text = format!(
            "{name} is an alias of {count} indices with routing, so deletes would miss posts: \
            remove the routing from the alias"
        );
        return Err(NoAnswer::refused(name, text));
    }
    let text = format!(
        "an alias of {count} indices, writes go to {write_index} and deletes to all: a post that was \
         written to another one earlier stays there as a second copy"
    );
    Ok(Check::warning(name, text))
}

/// Returns the fields that are sent to an index.
fn sent(is_tombstones: bool, choice: FieldChoice) -> Vec<fields::Sent> {
    if is_tombstones { kinds(TOMBSTONE_FIELDS) } else { kinds(post_fields(choice)) }
}

fn judge_mapping(
    needs: Needs,
    name: &str,
    write_index: &str,
    mappings: &Value,
    product: Product,
) -> (Vec<Check>, bool) {
    let (is_tombstones, choice) = (name == needs.names.tombstones, needs.names.fields);
    let (mut checks, dense_vectors) = if is_tombstones {
        (Vec::new(), false)
    } else {
        fields::judge_vectors(write_index, mappings, choice, product)
    };
    let sent = sent(is_tombstones, choice);
    checks.extend(fields::judge(write_index, mappings, &sent));
    checks.extend(fields::judge_foreign(write_index, mappings, &sent, choice));
    if checks.iter().all(|check| check.status == Status::Ok) {
        checks.push(Check::ok("mapping", format!("{write_index} accepts the documents as they are sent")));
    }
    (checks, dense_vectors)
}
