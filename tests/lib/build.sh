# Shell functions shared by tests/run, tests/fuzz/run and bench/quickstart. Sourced, not run.

# Configures and builds: build_kho FOLDER TARGETS(or "") CMAKE-OPTIONS…; output only when it fails.
build_kho() {
    local folder=$1 targets=$2
    shift 2
    local log
    log=$(mktemp)
    if ! { cmake -S "$KHO_ROOT" -B "$folder" -G Ninja "$@" &&
           cmake --build "$folder" ${targets:+--target $targets}; } >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
