//! The `visor` program: all of it is in the library, so that tests reach it.

fn main() -> std::process::ExitCode {
    visor::cli::main()
}
