// node grafana.js DASHBOARD FOLDER: writes FOLDER/dashboard.ts, which compiles only if a dashboard fits Grafana's own
// types. As literals, objects may have no key that the types do not have.
const { readFileSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");

const [file, folder] = process.argv.slice(2);
const dashboard = JSON.parse(readFileSync(file));
const esm = "@grafana/schema/dist/esm/raw";
// Options and field settings of each kind of panel.
const PANELS = {
  stat: `import type { Options as StatOptions } from "${esm}/composable/stat/panelcfg/x/StatPanelCfg_types.gen";`,
  table: `import type { Options as TableOptions, FieldConfig as TableField } from "${esm}/composable/table/panelcfg/x/TablePanelCfg_types.gen";`,
  timeseries: `import type { Options as TimeSeriesOptions, FieldConfig as TimeSeriesField } from "${esm}/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";`,
};
const OPTIONS = { stat: "StatOptions", table: "TableOptions", timeseries: "TimeSeriesOptions" };
const FIELDS = { stat: "Record<string, never>", table: "TableField", timeseries: "TimeSeriesField" };

const lines = [
  `import type { AnnotationQuery, Dashboard, Panel, RowPanel, VariableModel } from "${esm}/dashboard/x/Dashboard_types.gen";`,
  ...Object.values(PANELS),
  `
// The form that a type has in JSON: an enumeration is its values.
type Json<T> = 0 extends 1 & T ? T
  : T extends string ? \`\${T}\`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> }
  : T;

// Keys of the Prometheus plugin, which are not in Grafana's own types.
type Annotation = Json<AnnotationQuery> & {
  expr?: string; step?: string; titleFormat?: string; textFormat?: string; tagKeys?: string; useValueForTime?: boolean;
};
type Variable = Omit<Json<VariableModel>, "current"> & {
  definition?: string;
  // Empty: chosen at the first look.
  current: Json<VariableModel["current"]> | Record<string, never>;
};
`,
];
const { annotations, panels, templating, ...rest } = dashboard;
const literal = (value) => JSON.stringify(value, null, 2);
const declare = (name, type, value) => lines.push(`export const ${name}: ${type} = ${literal(value)};`);

declare("dashboard", "Json<Omit<Dashboard, \"annotations\" | \"panels\" | \"templating\">>", rest);
annotations.list.forEach((annotation, index) => declare(`annotation${index}`, "Annotation", annotation));
templating.list.forEach((variable, index) => declare(`variable${index}`, "Variable", variable));
panels.forEach((panel, index) => {
  if (panel.type === "row") {
    declare(`row${index}`, "Json<RowPanel>", panel);
    return;
  }
  if (!(panel.type in OPTIONS)) throw new Error(`no types for panels of the kind ${panel.type}`);
  const { options, fieldConfig, ...frame } = panel;
  const { custom, ...defaults } = fieldConfig.defaults;
  declare(`panel${index}`, "Json<Omit<Panel, \"options\" | \"fieldConfig\">>", frame);
  declare(`options${index}`, `Json<${OPTIONS[panel.type]}>`, options);
  declare(`fields${index}`, "Json<Panel[\"fieldConfig\"]>", { ...fieldConfig, defaults });
  if (custom) declare(`custom${index}`, `Json<${FIELDS[panel.type]}>`, custom);
});
writeFileSync(join(folder, "dashboard.ts"), lines.join("\n"));
