//! Every target over its seeds, on any toolchain.

use std::fs;
use std::path::Path;

use tokenweir_fuzz::TARGETS;

#[test]
fn what_the_targets_assert_holds_for_the_seeds() {
    for (name, run) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let seeds: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            println!("{}", seed.display());
            run(&fs::read(&seed).unwrap());
        }
        run(b"");
    }
}
