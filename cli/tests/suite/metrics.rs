//! What load tests measured, of one run and of two.

use crate::home::Home;

/// Leaves what `k6 --summary-export` writes.
const LOAD: &str = r#"
config:
  p95: {type: integer, default: 200}
  crossed: {type: boolean, default: false}
steps:
- shell: |
    cat > summary.json <<'END'
    {"root_group": {"name": "", "path": "", "groups": {}, "checks": {}},
     "metrics": {
       "http_reqs": {"count": 100, "rate": 10},
       "http_req_duration": {
         "avg": 120.5, "min": 80, "med": 110, "max": 400, "p(90)": 180, "p(95)": {{ config.p95 }},
         "thresholds": {"p(95)<250": {{ config.crossed }}}}}}
    END
  artifacts: {paths: [summary.json]}
"#;

#[test]
fn metrics_of_two_runs_stand_side_by_side() {
    let home = Home::new();
    let path = home.workflow("load", LOAD);
    home.muster(["run", &path]).expect(0);
    home.muster([
        "run",
        &path,
        "--config",
        "p95=300",
        "--config",
        "crossed=true",
    ])
    .expect(0);

    let one = home.muster(["metrics", "load-1"]).expect(0);
    assert!(one.stdout.contains("120.5"), "{}", one.stdout);
    let told = "threshold http_req_duration p(95)<250: holds";
    assert!(one.stdout.contains(told), "{}", one.stdout);

    let arguments = [
        "metrics",
        "load-2",
        "--compare",
        "load-1",
        "--name",
        "duration",
    ];
    let text = home.muster(arguments).expect(1);
    assert!(text.stdout.contains("+50.0%"), "{}", text.stdout);
    let told = "crossed, which held before";
    assert!(text.stdout.contains(told), "{}", text.stdout);
    let document = home
        .muster([&arguments[..], &["--output", "json"]].concat())
        .expect(1)
        .json();
    let metrics = document["metrics"].as_array().cloned().unwrap_or_default();
    let p95 = metrics.iter().find(|one| one["statistic"] == "p95");
    let p95 = p95.unwrap_or_else(|| panic!("no p95: {document}"));
    assert_eq!(p95["value"], 300.0, "{document}");
    assert_eq!(p95["base"], 200.0, "{document}");
    assert_eq!(p95["change"], 50.0, "{document}");
    assert!(metrics.iter().all(|one| one["name"] == "http_req_duration"));
    // As before is no news.
    home.muster(["metrics", "load-2", "--compare", "load-2"])
        .expect(0);
    let none = home.workflow("none", "steps: [{shell: echo}]");
    home.muster(["run", &none]).expect(0);
    let none = home.muster(["metrics", "none-1"]).expect(0);
    assert!(none.stderr.contains("no metrics"), "{}", none.stderr);
}
