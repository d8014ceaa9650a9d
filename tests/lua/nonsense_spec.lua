-- Scripts that pass nonsense get errors, and nothing else: tests/nonsense/main.lua in a process of its
-- own, whose memory is bounded. ADVRT_NONSENSE_SEED asks for other calls than those of seed 1,
-- ADVRT_NONSENSE_CALLS for more.

local support = require "support"
local system = require "advrt.core.system"

local MEMORY = 6000000 -- KiB
local LIMIT = 200 -- seconds

describe("nonsense", function()
    local folder, work
    before_each(function()
        folder, work = support.folder(), support.folder()
    end)
    after_each(function()
        support.remove(folder)
        support.remove(work)
    end)

    it("passed to every public function and method ends in no crash, hang or leak", function()
        local seed = os.getenv("ADVRT_NONSENSE_SEED") or "1"
        local calls = os.getenv("ADVRT_NONSENSE_CALLS") or support.sanitized() and "6000" or "20000"
        -- libtinfo keeps what it reads of a terminal
        local suppressions = support.write(folder .. "/lsan", "leak:libtinfo\n")
        local bound = ("ulimit -v %d; "):format(MEMORY)
        if support.sanitized() then
            bound = ("export LSAN_OPTIONS=suppressions=%s:print_suppressions=0 "
                .. "ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=2000:$ASAN_OPTIONS; ")
                :format(suppressions)
        end
        local log = folder .. "/log"
        local done, kind, status = os.execute(("%stimeout %d %s --threads 1 tests/nonsense/main.lua %s %s %s "
            .. "</dev/null >%s 2>&1"):format(bound, LIMIT, support.quote(system.options.executable),
            support.quote(work), support.quote(seed), support.quote(calls), log))
        local said = support.read(log)
        local last = support.exists(work .. "/last") and support.read(work .. "/last"):match("[^\n]*")
        assert(done, ("seed %s: %s %s at %s\n%s"):format(seed, kind, status, last, said))
        local made, functions, wrong = said:match("(%d+) calls of (%d+) functions.* (%d+) wrong\n")
        assert(made, said)
        assert.equal("0", wrong, said)
        assert.is_true(tonumber(made) >= 5000)
        -- More than a module's worth was found: the core's operations and the methods of objects.
        assert.is_true(tonumber(functions) >= 400)
    end)
end)
