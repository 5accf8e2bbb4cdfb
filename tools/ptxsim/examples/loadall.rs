fn main() {
    let (mut ok, mut bad) = (0, 0);
    for f in std::env::args().skip(1) {
        match ptxsim::Module::load(&std::fs::read_to_string(&f).unwrap()) {
            Ok(_) => ok += 1,
            Err(e) => {
                bad += 1;
                println!("{f}: {e}");
            }
        }
    }
    println!("{ok} loaded, {bad} failed");
}
