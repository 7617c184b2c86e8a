//! What people read of reports: warnings about them, and what tests have printed.

use crate::home::Home;

/// Reports: one with entities and a long output, one that is broken.
const SPEC: &str = r#"
steps:
- name: test
  shell: |
    {
      echo '<!DOCTYPE bomb [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
      echo '<testsuite name="shop"><testcase classname="shop" name="test_cart">'
      echo '<failure message="is &b; empty"/>'
      echo '<system-out>put &lt;one&gt; &amp; two<![CDATA['
      echo ' <b>as it is</b> ]]></system-out>'
      printf '<system-err>'; printf 'noise %.0s' $(seq 20000); echo '</system-err>'
      echo '</testcase><testcase classname="shop" name="test_pay"><system-out>paid</system-out></testcase>'
      echo '</testsuite>'
    } > entities.xml
    echo '<testsuite><testcase name="test_cut"/>' > broken.xml
    exit 1
  artifacts: {paths: ["*.xml"]}
"#;

#[test]
fn people_read_what_is_odd_in_a_report_and_what_a_test_has_printed() {
    let home = Home::new();
    let path = home.workflow("shop", SPEC);
    home.muster(["run", &path, "--quiet"]).expect(1);
    warnings(&home);
    outputs(&home);
}

fn warnings(home: &Home) {
    let shown = home
        .muster(["tests", "shop-1", "--reports"])
        .expect(0)
        .stdout;
    let words = "\nentities.xml\n  1 DOCTYPE was passed over, its entities are not expanded\n";
    assert!(shown.contains(words), "{shown}");
    let broken = shown.lines().find(|line| line.starts_with("broken.xml"));
    let broken = broken.unwrap();
    assert!(
        broken.contains("broken") && broken.contains("line "),
        "{broken}"
    );
    let told = home.muster(["tests", "shop-1", "--reports", "-o", "json"]);
    let told = told.expect(0).json();
    let odd = told["reports"].as_array().unwrap().iter();
    let odd: Vec<_> = odd.filter(|it| it["path"] == "entities.xml").collect();
    assert_eq!(
        odd[0]["warnings"][0],
        "1 DOCTYPE was passed over, its entities are not expanded"
    );
    assert_eq!(odd[0]["summary"]["warnings"][0]["kind"], "doctype-ignored");
    // Nothing was expanded.
    let tests = home.muster(["tests", "shop-1"]).expect(1).stdout;
    assert!(tests.contains("is &b; empty"), "{tests}");
}

fn outputs(home: &Home) {
    let plain = home.muster(["tests", "shop-1"]).expect(1).stdout;
    assert!(!plain.contains("standard output"), "{plain}");
    let full = home.muster(["tests", "shop-1", "--full"]).expect(1).stdout;
    let printed = "standard output:\n           put <one> & two\n            <b>as it is</b> \n";
    assert!(full.contains(printed), "{full}");
    assert!(
        full.contains("standard error:\n           noise noise"),
        "{full}"
    );
    let rest = full.lines().find(|line| line.contains("more, bytes "));
    let rest = rest.unwrap();
    assert!(rest.contains("… 54.4 kB more"), "{rest}");
    assert!(
        !full.contains("paid"),
        "of tests that are shown only: {full}"
    );

    // The command that is named brings the rest.
    let command = rest.split('`').nth(1).unwrap();
    let words = command.strip_prefix("muster ").unwrap().split(' ');
    let report = home.muster(words).expect(0).stdout;
    assert!(report.matches("noise ").count() == 20_000);

    let all = ["tests", "shop-1", "--all", "--full", "-o", "json"];
    let told = home.muster(all).expect(1).json();
    let tests = told["tests"].as_array().unwrap();
    let outputs = |name: &str| {
        let test = tests.iter().find(|test| test["name"] == name);
        test.unwrap()["outputs"].clone()
    };
    assert_eq!(outputs("test_pay")[0]["text"], "paid");
    let cart = outputs("test_cart");
    assert_eq!(
        (&cart[0]["stream"], &cart[1]["stream"]),
        (&"out".into(), &"err".into())
    );
    assert_eq!(cart[0].get("cut"), None);
    assert_eq!(cart[1]["cut"], true);
    let start = usize::try_from(cart[1]["start"].as_u64().unwrap()).unwrap();
    let end = usize::try_from(cart[1]["end"].as_u64().unwrap()).unwrap();
    assert_eq!(report[start..end].len(), 6 * 20_000, "bytes of the report");
    let short = home
        .muster(["tests", "shop-1", "-o", "json"])
        .expect(1)
        .json();
    let told = &short["tests"][0]["outputs"][0];
    assert!(
        told["start"].is_u64() && told.get("text").is_none(),
        "{told}"
    );
}
