//! compose.yaml as it stands, brought up by Debian's docker-compose: Tidegate by its own Dockerfile, Prometheus
//! from Debian's package under the name of the image that the file asks for. Grafana stays away: no registry
//! that the tests reach has it (`tests/prometheus` holds its dashboard against its schema).

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use crate::common::{tell, wait_for};
use crate::docker::{Engine, build};
use crate::docs_support::run;
use crate::{copy, copy_libraries, top};

/// It scrapes every fifteen seconds.
const SCRAPED_MAX: Duration = Duration::from_mins(1);

/// Runs docker-compose, by the file of the repository.
fn compose(engine: &Engine, words: &[&str]) -> Command {
    let folder = top().join("packaging/docker");
    let file = engine.place.file("compose.yaml");
    let text = fs::read_to_string(folder.join("compose.yaml")).expect("there is one");
    // Version 1 takes the name of a project from its command line alone.
    let text = text.replacen("\nname: tidegate\n", "\n", 1);
    fs::write(&file, text).expect("it can be written");
    let mut compose = Command::new("docker-compose");
    compose.env("DOCKER_HOST", engine.socket()).env("DOCKER_CONFIG", engine.place.file("client"));
    compose.args(["--project-name", "tidegate", "--project-directory"]).arg(folder);
    compose.arg("--file").arg(file).args(words);
    compose
}

/// The image that the file asks for, of another maker and an older version.
fn make_prometheus(engine: &Engine) {
    let program = top().join("tests/.tools/prometheus/usr/bin/prometheus");
    assert!(program.exists(), "there is no {}: tests/run.sh unpacks it", program.display());
    let folder = engine.place.file("prometheus");
    copy(&program, &folder.join("bin/prometheus"));
    copy_libraries(&program, &folder);
    for made in ["prometheus", "tmp"] {
        fs::create_dir_all(folder.join(made)).expect("it can be made");
    }
    let compose = include_str!("../../packaging/docker/compose.yaml");
    let name = compose.lines().find_map(|line| line.trim().strip_prefix("image: prom/"));
    let name = format!("prom/{}", name.expect("it names an image of Prometheus"));
    let as_theirs = ["ENTRYPOINT [\"/bin/prometheus\"]", "WORKDIR /prometheus"];
    engine.import_changed(&folder, &name, &as_theirs);
}

/// What Prometheus answers on the port that the file publishes.
fn asked(engine: &Engine, target: &str) -> Option<Json> {
    let mut curl = engine.within("curl");
    curl.args(["--silent", "--fail", &format!("http://127.0.0.1:9090/api/v1/{target}")]);
    let said = curl.output().expect("nsenter starts");
    serde_json::from_slice::<Json>(&said.stdout).ok().map(|mut said| said["data"].take())
}

#[test]
fn compose_brings_up_a_gateway_that_its_prometheus_scrapes_and_watches() {
    let engine = Engine::start_with_networks();
    build(&engine);
    make_prometheus(&engine);
    run(compose(&engine, &["up", "--detach", "--no-build", "tidegate", "prometheus"]));
    let mut curl = engine.within("curl");
    let url = "http://127.0.0.1:8086/write?db=iot";
    curl.args(["--silent", "--show-error", "--fail", "--include", url]);
    curl.args(["--data-binary", "m,site=a v=1 1"]);
    let head = run(curl);
    assert!(head.contains("204 No Content"), "the port is published: {head}");

    let value = |query: &str| -> Option<f64> {
        let found = asked(&engine, &format!("query?query={query}"))?;
        found["result"][0]["value"][1].as_str()?.parse().ok()
    };
    // By the name of the service, through the network that compose has made.
    wait_for("Prometheus to have scraped Tidegate", SCRAPED_MAX, || {
        (value("up%7Bjob=%22tidegate%22%7D")? >= 1.0).then_some(())
    });
    let asked_for = value("tidegate_http_connections");
    assert!(asked_for.is_some_and(|count| count >= 1.0), "{asked_for:?}");

    let rules = asked(&engine, "rules").expect("it answers");
    let rules: Vec<&Json> = rules["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array().into_iter().flatten())
        .collect();
    let shipped = fs::read_to_string(top().join("grafana/prometheus/alerts.yml"));
    let shipped = shipped.expect("it is there").matches("- alert: ").count();
    assert!(shipped > 0 && rules.len() == shipped, "{} of {shipped} rules", rules.len());
    let wrong: Vec<&&Json> = rules.iter().filter(|rule| rule.get("lastError").is_some()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    tell(format!("compose: Tidegate scraped by its name, {shipped} rules loaded"));
    run(compose(&engine, &["down", "--volumes"]));
}
