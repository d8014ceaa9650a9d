--- Where a plan's time goes: every layer's steps beside a budget, which is its FLOPs at the rate
-- that this machine reaches for such layers (rates.lua), and for steps that compute little the bytes
-- they touch at the memory's rate. What is above budget is where time can be had.

local fail = require "advrt.support.fail"
local net = require "advrt.net"
local rates = require "rates"
local system = require "advrt.core.system"
local work = require "work"

local profile = {}

-- Steps that do their layer's FLOPs, by the start of their name.
local COMPUTES = {"^conv", "^winograd", "^linear", "^matmul"}

local function computes(what)
    for _, pattern in ipairs(COMPUTES) do
        if what:find(pattern) then return true end
    end
    return false
end

--- The steps of a plan as rows, those of one name and layer in one direction together; seconds is
-- the median over runs.
local function rows_of(plan, step, runs)
    local rows, by_key, samples = {}, {}, {}
    for r = 1, runs do
        local once = {}
        plan:time(true)
        step()
        for _, s in ipairs(plan:time()) do
            local key = ("%s\n%s\n%s"):format(s.layer, s.what, s.backward)
            if not by_key[key] then
                by_key[key] = {layer = s.layer, what = s.what, backward = s.backward, bytes = 0}
                rows[#rows + 1], samples[key] = by_key[key], {}
            end
            if r == 1 then by_key[key].bytes = by_key[key].bytes + s.bytes end
            once[key] = (once[key] or 0) + s.seconds
        end
        for key, seconds in pairs(once) do samples[key][r] = seconds end
    end
    for key, row in pairs(by_key) do row.seconds = work.median(samples[key]) end
    return rows
end

--- Profiles a work of spec.batch images with the plan that it runs in: rows in the plan's order,
-- each {layer, what, backward, kind, seconds, budget, flops or bytes}, and the rates.
function profile.measure(spec)
    local g, message = net.load(spec.net, {init = "golden", precision = spec.precision})
    if not g then fail("%s", message) end
    local labels, targets = work.classes(g, spec.batch)
    local step, plan = work.step(spec.what, g, work.tensors(g, spec.batch), labels, targets)
    step()
    local runs = math.max(spec.rounds, work.steps_for(spec.seconds, work.time(step, 1)))
    local rows, whole = rows_of(plan, step, runs), {}
    for r = 1, runs do whole[r] = work.time(step, 1) end
    local _, flops = work.forward_flops(g.graph)
    local kinds = {}
    for _, layer in ipairs(g.graph:layers()) do
        if flops[layer.name] then kinds[layer.name] = rates.kind(layer) end
    end
    local found = rates.all(system.options.plan, spec.batch)
    for _, row in ipairs(rows) do
        if computes(row.what) and kinds[row.layer] then
            row.kind, row.flops = kinds[row.layer], spec.batch * flops[row.layer]
            row.bytes = nil
        else
            row.kind = "memory"
        end
        row.budget = (row.flops or row.bytes) / found[row.kind]
    end
    return {rows = rows, rates = found, runs = runs, seconds = (work.median(whole))}
end

-- Printing ---------------------------------------------------------------------

local HEADER = ("%-28s %-5s %-17s %-8s %9s %9s %6s %9s"):format("layer", "pass", "step", "kind", "ms",
    "budget", "times", "G/s")
local MOST = 10 -- rows in the list of what is furthest above

local function line(row)
    return ("%-28s %-5s %-17s %-8s %9.3f %9.3f %6.2f %9.1f"):format(row.layer,
        row.backward and "back" or "forw", row.what, row.kind, 1e3 * row.seconds, 1e3 * row.budget,
        row.seconds / row.budget, (row.flops or row.bytes) / row.seconds / 1e9)
end

--- Sums over the rows of each kind: array of {kind, seconds, budget}, and that of all.
local function by_kind(rows)
    local sums, all = {}, {kind = "all", seconds = 0, budget = 0}
    for _, row in ipairs(rows) do
        if not sums[row.kind] then
            sums[row.kind] = {kind = row.kind, seconds = 0, budget = 0}
            sums[#sums + 1] = sums[row.kind]
        end
        for _, sum in ipairs {sums[row.kind], all} do
            sum.seconds, sum.budget = sum.seconds + row.seconds, sum.budget + row.budget
        end
    end
    table.sort(sums, function(a, b) return a.seconds > b.seconds end)
    sums[#sums + 1] = all
    return sums, all
end

--- The profile as text.
function profile.print(name, p)
    local sums, all = by_kind(p.rows)
    print(("\n%s: %.3f ms a run (median of %d by step), %.3f ms without timing; budget %.3f ms"):format(
        name, 1e3 * all.seconds, p.runs, 1e3 * p.seconds, 1e3 * all.budget))
    print(HEADER)
    for _, row in ipairs(p.rows) do print(line(row)) end
    print(("\n%-8s %9s %7s %9s %6s   %s"):format("kind", "ms", "share", "budget", "times",
        "rate (GFLOP/s; memory: GB/s)"))
    for _, sum in ipairs(sums) do
        print(("%-8s %9.3f %5.1f %% %9.3f %6.2f   %s"):format(sum.kind, 1e3 * sum.seconds,
            100 * sum.seconds / all.seconds, 1e3 * sum.budget, sum.seconds / sum.budget,
            p.rates[sum.kind] and ("%.1f"):format(p.rates[sum.kind] / 1e9) or ""))
    end
    local sorted = table.move(p.rows, 1, #p.rows, 1, {})
    table.sort(sorted, function(a, b) return a.seconds - a.budget > b.seconds - b.budget end)
    print("\nfurthest above budget, ms:")
    for i = 1, math.min(MOST, #sorted) do
        local row = sorted[i]
        if row.seconds <= row.budget then break end
        print(("%9.3f  %s"):format(1e3 * (row.seconds - row.budget), line(row)))
    end
end

return profile
