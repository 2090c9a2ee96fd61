//! Looks up and judges the indices behind a name that is written to.

use std::time::Duration;

use serde_json::Value;

use super::lookup::{self, Alias, Index, Indices};
use super::returned::Returned;
use super::{Needs, PreflightError, fields, privileges, probe, settings};
use crate::model::FieldChoice;
use crate::model::schema::{TOMBSTONE_FIELDS, kinds, post_fields};
use crate::observe::finding::{Check, Status};
use crate::sink::elasticsearch::client::Client;
use crate::sink::elasticsearch::mapping;
use crate::sink::elasticsearch::product::Product;

/// An index or alias that is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name to write to.
    pub name: String,
    /// Concrete indices behind the name, sorted by name, at least one.
    pub members: Vec<Member>,
    /// Concrete index that takes new documents.
    pub write_index: String,
    /// Whether the server has shown all this. If not, one index without problems is assumed.
    pub is_known: bool,
    /// How long deletes are remembered (`index.gc_deletes`): the shortest time of all indices; zero if unknown.
    pub gc_deletes: Duration,
    /// Whether any of the indices acknowledges before it syncs (`index.translog.durability: async`), or may do so.
    pub durability_async: bool,
    /// How the write index maps vectors. Tombstones have none.
    pub vectors: VectorMapping,
    /// Why posts cannot be searched by author, and what to do: one text for each such index.
    pub unsearchable: Vec<String>,
    /// Whether searches through the name may miss documents: the alias has a filter, or searches only some shards.
    pub hides_documents: bool,
}

/// A concrete index behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Name of the index.
    pub name: String,
    /// UUID of the index, which changes when the index is created again; None: unknown.
    pub uuid: Option<String>,
    /// Whether every action and look-up must have a routing (`_routing.required`).
    pub requires_routing: bool,
    /// Block that prevents writes until somebody removes it.
    pub block: Option<&'static str>,
    /// How the index returns documents.
    pub returned: Returned,
}

impl Member {
    /// Creates an index of which nothing is known.
    fn unknown(name: &str) -> Self {
        let returned = Returned::default();
        Self { name: name.to_owned(), uuid: None, requires_routing: false, block: None, returned }
    }
}

#[cfg(test)]
impl Target {
    /// Creates an alias of the one index `{name}_v1`.
    pub(in crate::sink::elasticsearch) fn of_one_index(name: &str) -> Self {
        let write_index = format!("{name}_v1");
        Self {
            name: name.to_owned(),
            members: vec![Member::unknown(&write_index)],
            write_index,
            is_known: true,
            gc_deletes: Duration::ZERO,
            durability_async: false,
            vectors: VectorMapping::default(),
            unsearchable: Vec::new(),
            hides_documents: false,
        }
    }
}

impl Target {
    /// Returns whether the name is an alias.
    pub fn is_alias(&self) -> bool {
        self.is_known && self.members.iter().all(|member| member.name != self.name)
    }

    /// Returns the names under which documents are looked up, and whether each requires routing. Ids are unique only
    /// per index, so all indices of an alias are listed. An alias of one index is listed itself, since the credentials
    /// may cover only the alias.
    pub fn look_up_in(&self) -> impl Iterator<Item = (&str, bool)> {
        let by_name = self.members.len() < 2;
        self.members
            .iter()
            .map(move |member| (if by_name { &*self.name } else { &*member.name }, member.requires_routing))
    }

    /// Returns the names to search, separated by commas: the name itself, or its indices if the name hides documents.
    pub fn search_in(&self) -> String {
        if !self.hides_documents {
            return self.name.clone();
        }
        let members: Vec<&str> = self.members.iter().map(|member| &*member.name).collect();
        members.join(",")
    }

    /// Returns whether writes to the name must have a routing.
    pub fn requires_routing(&self) -> bool {
        self.members.iter().any(|member| member.name == self.write_index && member.requires_routing)
    }

    /// Returns whether an index is behind the name, as far as is known.
    pub fn holds(&self, index: &str) -> bool {
        !self.is_known || self.members.iter().any(|member| member.name == index)
    }

    /// Returns whether the same indices are behind the name and the same one takes writes. A block may come and go.
    pub fn is_same(&self, other: &Self) -> bool {
        let key = |member: &Member| (member.name.clone(), member.uuid.clone(), member.requires_routing);
        self.write_index == other.write_index
            && self.members.iter().map(key).eq(other.members.iter().map(key))
    }

    /// Names the write index and the others.
    pub fn describe(&self) -> String {
        let others: Vec<&str> = self
            .members
            .iter()
            .map(|member| &*member.name)
            .filter(|name| *name != self.write_index)
            .collect();
        if others.is_empty() {
            return self.write_index.clone();
        }
        format!("{} (and {})", self.write_index, others.join(", "))
    }
}

/// How an index maps the vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorMapping {
    /// Whether all of them are Elasticsearch's `dense_vector`, which base64 requires.
    pub dense: bool,
}

/// Looks up the indices behind a name, and judges them.
pub(super) fn ask(
    client: &Client,
    name: &'static str,
    needs: Needs,
) -> Result<(Target, Vec<Check>), PreflightError> {
    let found = lookup::ask(client, name)?;
    let settings = found.iter().flat_map(Indices::values).filter_map(|index| index.settings.as_ref());
    settings.filter_map(settings::product).for_each(|product| client.set_product(product));
    let product = client.product();
    match found {
        Some(indices) if indices.is_empty() && needs.create => Err(mapping::not_shown(name)),
        Some(indices) if needs.reads_only => {
            let (mut target, mut checks) = judge(name, &indices, needs, product)?;
            if !target.is_known {
                let resolved = lookup::resolve(client, name)?;
                target.members = resolved.iter().map(|index| Member::unknown(index)).collect();
            }
            // A run that only reads does not care whether documents could be written.
            checks.retain(|check| check.status == Status::Ok);
            let closed =
                |(index, found): (&String, &Index)| settings::judge_to_read(index, found.settings.as_ref()?);
            checks.extend(indices.iter().filter_map(closed));
            Ok((target, checks))
        }
        Some(indices) => {
            let (target, mut checks) = judge(name, &indices, needs, product)?;
            if !target.is_known {
                lookup::refuse_unusable(client, name)?;
            }
            if needs.offer {
                checks.extend(offer(client, &target, &indices, needs)?);
            }
            Ok((target, checks))
        }
        // No target exists yet.
        None if needs.create => Err(PreflightError::Refused(vec![judge_creation(client, name, needs)?])),
        None => Err(missing(name)),
    }
}

/// Sends the server a document to judge, unless something must be fixed first.
fn offer(
    client: &Client,
    target: &Target,
    indices: &Indices,
    needs: Needs,
) -> Result<Vec<Check>, PreflightError> {
    let is_tombstones = target.name == needs.names.tombstones;
    let base64 = (needs.base64 && !is_tombstones).then_some(target.vectors);
    let unproven =
        || Ok(base64.map(|vectors| probe::judge_base64(target, vectors, None)).into_iter().collect());
    let Some(found) = indices.get(&target.write_index) else { return unproven() };
    let Some(set) = &found.settings else { return unproven() };
    let mut settings = settings::judge(&target.write_index, set, &Value::Null);
    if let Some(pipeline) = needs.pipeline {
        settings::name_pipeline(&mut settings.pipelines, pipeline);
    }
    let mut checks = probe::judge_pipelines(client, is_tombstones, &target.write_index, &settings.pipelines)?;
    // A pipeline may send the document to another index, which the server would create unless an alias is required.
    let may_go_elsewhere = !settings.pipelines.is_empty() && !target.is_alias();
    let is_blocked = settings.checks.iter().any(|check| check.text.contains("index.blocks."));
    if !may_go_elsewhere && !is_blocked && checks.iter().all(|check| check.status != Status::Failed) {
        checks.extend(probe::offer(client, target, found, needs, &sent(is_tombstones, needs.names.fields)));
        if let Some(vectors) = base64 {
            let taken =
                probe::offer_base64(client, target, found, needs, &sent(is_tombstones, needs.names.fields));
            checks.push(probe::judge_base64(target, vectors, taken));
        }
    } else if let Some(vectors) = base64 {
        checks.push(probe::judge_base64(target, vectors, None));
    }
    Ok(checks)
}

/// Judges whether `--create-indices` could create what is missing. Creates nothing.
fn judge_creation(client: &Client, name: &'static str, needs: Needs) -> Result<Check, PreflightError> {
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
) -> Result<(Target, Vec<Check>), PreflightError> {
    if indices.is_empty() {
        return Ok(unknown(name, product));
    }
    let write_index = match write_index(name, indices) {
        // An alias for searches needs no write index.
        Err(_) if needs.reads_only && indices.values().all(|found| alias(name, found).is_some()) => {
            indices.keys().next_back().cloned().unwrap_or_default()
        }
        found => found?,
    };
    let mut checks = vec![judge_indices(name, &write_index, indices)?];
    let mut gc_deletes = Duration::MAX;
    let mut durability_async = false;
    let mut members = Vec::with_capacity(indices.len());
    for (index, found) in indices {
        // An alias with routing provides it itself, and refuses any other.
        let is_routed = alias(name, found).is_some_and(|alias| alias.index_routing.is_some());
        let requires_routing = !is_routed && found.mappings.as_ref().is_some_and(fields::requires_routing);
        let returned = found.mappings.as_ref().map(Returned::of).unwrap_or_default();
        let mut member = Member { name: index.clone(), uuid: None, requires_routing, block: None, returned };
        if let Some(set) = &found.settings {
            let settings = settings::judge(index, set, found.defaults.as_ref().unwrap_or(&Value::Null));
            gc_deletes = gc_deletes.min(settings.gc_deletes);
            durability_async |= settings.durability_async;
            checks.extend((settings.tuned && !needs.manage).then(|| settings::judge_tuned(index)));
            member.uuid = settings.uuid.clone();
            member.block = settings.block;
            checks.extend(if *index == write_index {
                settings.checks
            } else {
                settings::of_older(name, index, settings)
            });
        } else {
            checks.push(not_shown("settings", index, product));
            gc_deletes = Duration::ZERO;
            durability_async = true;
        }
        members.push(member);
    }
    let mappings = indices.get(&write_index).and_then(|found| found.mappings.as_ref());
    let (mapping_checks, vectors) = match mappings {
        Some(mappings) => judge_mapping(needs, name, &write_index, mappings, product),
        None => (vec![not_shown("mapping", &write_index, product)], VectorMapping::default()),
    };
    checks.extend(mapping_checks);

    let judge_author =
        |(index, found): (&String, &Index)| fields::judge_author(index, found.mappings.as_ref()?);
    let unsearchable = indices.iter().filter_map(judge_author).collect();
    let hides_documents = indices.values().filter_map(|found| alias(name, found)).any(Alias::hides_documents);
    let name = name.to_owned();
    let target = Target {
        name,
        members,
        write_index,
        is_known: true,
        gc_deletes,
        durability_async,
        vectors,
        unsearchable,
        hides_documents,
    };
    Ok((target, checks))
}

/// Returns what is assumed if the server shows nothing about a name: one index without problems.
fn unknown(name: &'static str, product: Product) -> (Target, Vec<Check>) {
    let target = Target {
        name: name.to_owned(),
        members: vec![Member::unknown(name)],
        write_index: name.to_owned(),
        is_known: false,
        gc_deletes: Duration::ZERO,
        durability_async: true,
        vectors: VectorMapping::default(),
        unsearchable: Vec::new(),
        hides_documents: false,
    };
    let text = format!(
        "this server does not show this key whether {name} exists and has the right mapping; the run \
         assumes so: make sure of that, or grant {} {}",
        product.grantee(),
        product.privilege("view_index_metadata")
    );
    (target, vec![Check::warning(name, text)])
}

fn not_shown(what: &'static str, index: &str, product: Product) -> Check {
    Check::warning(
        what,
        format!(
            "this server does not show the {what} of {index}, which counts as the worst case: make sure \
             that it is as documented, or grant {} {}",
            product.grantee(),
            product.privilege("view_index_metadata")
        ),
    )
}

fn missing(name: &'static str) -> PreflightError {
    let text = format!("there is no index or alias {name}: create it, or run with --create-indices");
    PreflightError::refused(name, text)
}

/// Returns the concrete index that takes new documents under a name.
fn write_index(name: &'static str, indices: &Indices) -> Result<String, PreflightError> {
    let refused = |text: &str| Err(PreflightError::refused(name, format!("{name} {text}")));
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
fn judge_indices(name: &'static str, write_index: &str, indices: &Indices) -> Result<Check, PreflightError> {
    let count = indices.len();
    let has_routing =
        indices.values().any(|found| alias(name, found).is_some_and(|alias| alias.index_routing.is_some()));
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
        return Err(PreflightError::refused(name, text));
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
) -> (Vec<Check>, VectorMapping) {
    let (is_tombstones, choice) = (name == needs.names.tombstones, needs.names.fields);
    let (mut checks, vectors) = if is_tombstones {
        (Vec::new(), VectorMapping::default())
    } else {
        fields::judge_vectors(write_index, mappings, choice, product)
    };
    let sent = sent(is_tombstones, choice);
    checks.extend(fields::judge(write_index, mappings, &sent));
    checks.extend(fields::judge_foreign(write_index, mappings, &sent, choice));
    if checks.iter().all(|check| check.status == Status::Ok) {
        checks.push(Check::ok("mapping", format!("{write_index} accepts the documents as they are sent")));
    }
    (checks, vectors)
}
