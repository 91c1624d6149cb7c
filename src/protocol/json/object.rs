//! Objects: which shape one has, and the flat ones, of which `metrics` holds many.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::Address;
use super::fault::Fault;
use super::walk::{Key, Leaves};
use super::{Decoder, scalar, timestream};
use crate::record::Reason;

/// The members of an object, as raw JSON; empty where absent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Members<'a> {
    pub(super) measurement: &'a str,
    pub(super) name: &'a str,
    pub(super) database: &'a str,
    pub(super) table: &'a str,
    pub(super) time: &'a str,
    pub(super) version: &'a str,
    pub(super) has_fields: bool,
    pub(super) has_metrics: bool,
    pub(super) common: &'a str,
    pub(super) records: &'a str,
}

impl<'a> Decoder<'a, '_> {
    /// Reads an object: its tags and fields into the draft, the elements of its `metrics` to the sink.
    pub(super) fn members<D: Deserializer<'a>>(
        &mut self,
        reader: D,
    ) -> Result<Members<'a>, D::Error> {
        self.draft.clear();
        Object { decoder: self }.deserialize(reader)
    }

    /// Takes an object that has been read: `text` is its extent.
    pub(super) fn finish(&mut self, text: &'a str, members: &Members<'a>) -> Result<(), Fault<'a>> {
        match (members.has_fields, members.has_metrics, !members.records.is_empty()) {
            (true, false, false) => self.flat(text, members),
            // Its elements have been taken one by one.
            (false, true, false) => Ok(()),
            (false, false, true) => timestream::records(self, members),
            (false, false, false) => {
                let message = "neither fields nor metrics nor Records".to_owned();
                Err(Fault { at: "", reason: Reason::NoMeasure, message })
            }
            _ => {
                let message = "more than one of fields, metrics and Records".to_owned();
                Err(Fault { at: text, reason: Reason::InvalidSyntax, message })
            }
        }
    }

    /// Takes a flat record, whose tags and fields the draft holds already.
    fn flat(&mut self, text: &'a str, members: &Members<'a>) -> Result<(), Fault<'a>> {
        let arena = self.draft.arena;
        let measurement = match scalar::name(members.measurement, "measurement", arena)? {
            Some(measurement) => Some(measurement),
            None => scalar::name(members.name, "name", arena)?,
        };
        let named_table = scalar::name(members.table, "table", arena)?;
        let table = named_table.or(self.options.table).or(measurement);
        self.draft.address(&Address {
            database: scalar::name(members.database, "database", arena)?.or(self.options.database),
            table,
            measure_name: self.options.measure_name.or(measurement).or(table),
        })?;
        self.draft.record.time_ns = scalar::time(members.time, &self.options, arena)?;
        self.draft.record.version = scalar::version(members.version)?;
        self.show(text)
    }
}

/// Walks an object of any shape: tags and fields into the draft, elements of `metrics` to the sink,
/// all else as raw JSON.
struct Object<'d, 'a, 's> {
    decoder: &'d mut Decoder<'a, 's>,
}

impl<'a> DeserializeSeed<'a> for Object<'_, 'a, '_> {
    type Value = Members<'a>;

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<Members<'a>, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Object<'_, 'a, '_> {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a record as an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Members<'a>, M::Error> {
        let mut members = Members::default();
        let decoder = self.decoder;
        while let Some(key) = map.next_key_seed(Key(decoder.draft.arena))? {
            let slot = match key {
                "tags" => {
                    decoder.tags(&mut map)?;
                    continue;
                }
                "fields" => {
                    members.has_fields = true;
                    decoder.fields(&mut map)?;
                    continue;
                }
                "metrics" => {
                    members.has_metrics = true;
                    decoder.metrics(&mut map)?;
                    continue;
                }
                "measurement" => &mut members.measurement,
                "name" => &mut members.name,
                "timestamp" => &mut members.time,
                "version" => &mut members.version,
                "database" | "db" | "DatabaseName" => &mut members.database,
                "table" | "TableName" => &mut members.table,
                "CommonAttributes" => &mut members.common,
                "Records" => &mut members.records,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = scalar::present(map.next_value::<&RawValue>()?.get());
        }
        Ok(members)
    }
}

impl<'a> Decoder<'a, '_> {
    fn tags<M: MapAccess<'a>>(&mut self, map: &mut M) -> Result<(), M::Error> {
        let Self { draft, fault, .. } = self;
        draft.clear_dimensions();
        let arena = draft.arena;
        map.next_value_seed(Leaves { arena, fault, each: |name, raw| draft.tag(name, raw) })
    }

    fn fields<M: MapAccess<'a>>(&mut self, map: &mut M) -> Result<(), M::Error> {
        let Self { draft, fault, .. } = self;
        draft.clear_attributes();
        let arena = draft.arena;
        map.next_value_seed(Leaves { arena, fault, each: |name, raw| draft.field(name, raw) })
    }

    fn metrics<M: MapAccess<'a>>(&mut self, map: &mut M) -> Result<(), M::Error> {
        if self.in_batch {
            let message = "metrics inside the metrics of another object".to_owned();
            self.fault = Some(Fault { at: "", reason: Reason::InvalidSyntax, message });
            return Err(M::Error::custom(""));
        }
        self.in_batch = true;
        let read = map.next_value_seed(self.elements());
        self.in_batch = false;
        read
    }
}
