//! Entries to read by what the page says: the golden files.

use serde_json::Value;

pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) envelope: String,
    pub(crate) payload: String,
}

impl Sample {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.envelope).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.value()["entry"]["kind"].as_str().unwrap().to_owned()
    }

    pub(crate) fn body(&self) -> Value {
        self.value()["entry"]["body"].take()
    }

    pub(crate) fn version(&self) -> u64 {
        self.value()["v"].as_u64().unwrap()
    }
}

pub(crate) fn all() -> Vec<Sample> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let files = std::fs::read_dir(directory).unwrap();
    let sample = |path: std::path::PathBuf| {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = |field: &str| file[field].as_str().unwrap().to_owned();
        Sample {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            envelope: text("envelope"),
            payload: text("payload"),
        }
    };
    let paths = files.map(|file| file.unwrap().path());
    let json = paths.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    json.map(sample).collect()
}
