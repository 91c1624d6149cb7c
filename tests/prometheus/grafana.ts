// What the dashboard must be, by the types that Grafana publishes of its own JSON. The test puts the file
// behind it, as `= {...}`. The packages type a panel's options and queries as anything, since plugins have
// their own; so those of the plugins that we use are put in their place.
import type { AnnotationQuery, Dashboard, DataQuery, FieldConfig, GraphFieldConfig, Panel, RowPanel } from "@grafana/schema";
import type { Options as TimeseriesOptions } from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts";
import type { Options as StatOptions } from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts";

/** In JSON an enumeration is its text. */
type Json<T> = T extends (infer E)[] ? Json<E>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> }
  : T extends string ? `${T}` : T;

/** Of the data source, whose package has no types of it. */
interface Query extends DataQuery { expr: string; editorMode: "code"; range: boolean }

interface Shown<Kind, Options, Custom> extends Omit<Panel, "type" | "options" | "targets" | "fieldConfig"> {
  type: Kind;
  title: string;
  description: string;
  options: Options;
  targets: (Query & { legendFormat: string })[];
  fieldConfig: {
    defaults: Omit<FieldConfig, "custom" | "unit"> & { unit: string; custom?: Custom };
    overrides: { matcher: { id: "byName" | "byRegexp"; options: string }; properties: { id: string; value: string }[] }[];
  };
}

type Page = Json<Omit<Dashboard, "panels" | "annotations"> & {
  panels: (RowPanel | Shown<"timeseries", TimeseriesOptions, GraphFieldConfig> | Shown<"stat", StatOptions, never>)[];
  annotations: { list: (AnnotationQuery<Query> & { titleFormat: string })[] };
}>;

export const page: Page
