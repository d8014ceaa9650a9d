--- `bin/advrt tests/gpu_table.lua GPU TESTS BENCH`: one table of what tests/run and bench.lua wrote to the
-- files TESTS and BENCH; GPU is what the driver calls the GPU.

local fail = require "advrt.support.fail"

local gpu, tests, bench = ...
if not bench then fail.option("gpu_table.lua wants the GPU's name and two files") end

local TITLES = {["tests/device"] = "an experiment's records against the CPU's",
    ["tests/lua/golden"] = "golden numbers of the nets"}

--- The lines of a file; none where it is not there.
local function lines(path)
    local file <close> = io.open(path)
    local text = file and file:read("a") or ""
    return (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("(.-)\n")
end

local rows, failed, timed, ended = {}, 0, 0, false

for line in lines(tests) do
    local name, passed, bad, seconds, note = line:match(
        "^(%S.-)%s+(%d+) passed, (%d+) failed %((%d+) s%)(.*)$")
    ended = ended or line:find("^%d+ passed, %d+ failed$") ~= nil
    local plain = name and name:gsub(" on cuda$", "")
    if name then
        rows[#rows + 1] = {TITLES[plain] or plain, ("%s passed, %s failed%s"):format(passed, bad, note),
            seconds .. " s", ""}
        failed = failed + tonumber(bad)
    end
end
if not ended then
    rows[#rows + 1] = {"tests", "did not end", "", ""}
    failed = failed + 1
end

for line in lines(bench) do
    if line:find("^%S+:%d+:%l") then
        local words = {}
        for word in line:gsub("(%d) %%", "%1%%"):gmatch("%S+") do words[#words + 1] = word end
        local beside = words[13] and ("%s of PyTorch's %s s (%s)"):format(words[13], words[11], words[12])
        rows[#rows + 1] = {words[1], words[5] .. " images/s, " .. words[7] .. " of the peak",
            words[2] .. " s", beside or ""}
        timed = timed + 1
    end
end
if timed == 0 then rows[#rows + 1] = {"speed", "not measured", "", ""} end

print(("| %s | result | time | beside PyTorch |"):format(gpu))
print("|---|---|---|---|")
for _, row in ipairs(rows) do print("| " .. table.concat(row, " | ") .. " |") end
if failed > 0 then
    print(failed .. " checks failed; the log of the tests names them")
else
    print(timed > 0 and "all checks passed" or "all tests passed; the speed was not measured")
end
