--- The attacks of experiments/robustness.lua, and its results: records, tables, a figure and a
-- report.
--
-- A turn is one attack at one eps: {part, chain, name, text, loss, eps, eps_text, attack}. The
-- turns of one chain skip the images that an earlier turn broke. All of --attacks at all eps form
-- one chain; each pair of the matrix forms another.

local attacks = require "advrt.attacks"
local comparison = require "advrt.results.comparison"
local core = require "advrt.core.record"
local fail = require "advrt.support.fail"
local latex = require "advrt.results.latex"
local loss = require "advrt.loss"
local plot = require "advrt.plot"
local range = require "advrt.support.range"
local record = require "advrt.record"
local results = require "advrt.results.finish"
local stats = require "advrt.results.stats"
local run_json = require "advrt.run.run_json"
local sheet = require "advrt.plot.sheet"
local tables = require "advrt.results.tables"

local HEIGHT = 130 -- of a panel of the figure, in points

local robustness = {}

--- The default attacks without --attacks: those of AutoAttack, with fewer queries.
robustness.attacks = {"apgd", "apgd:loss=dlr:classes=9", "fab", "square:queries=1000"}

-- The attacks of the matrix, with equal numbers of steps.
local of_matrix = {{"pgd", "pgd:steps=100:early=true:loss=%s"}, {"apgd", "apgd:steps=100:loss=%s"}}

local MOST_NAME = 36  -- letters of an attack's name beside the other columns in a line of 100
local MOST_LINES = 10 -- printed pairs
local MATRIX = "matrix" -- the name of the matrix among the attacks' names

local function loss_of(name) return loss.get(name) or loss.shipped(name) end

--- The smallest number of classes that a loss accepts in an untargeted attack.
function robustness.fewest_classes(name) return loss.untargeted(loss_of(name)).min_classes end

--- The attack of a text at an eps. The text must not set norm or eps: the run sets them.
local function attack_at(o, net, option, text, eps)
    local kind = attacks[text:match("^[^:]*")]
    for _, key in ipairs {"norm", "eps"} do
        if text:find(":" .. key .. "=", 1, true) then
            fail.option("%s: '%s' sets its own %s; give --%s instead", option, text, key, key)
        end
    end
    local parameters, full = kind.parameters, text
    if parameters.norm then full = full .. ":norm=" .. o.norm end
    if parameters.eps then full = ("%s:eps=%.17g"):format(full, eps) end
    local attack, problem = attacks.parse(full)
    if not attack then fail.option("%s: %s", option, problem) end
    if (attack.norm or 2) ~= o.norm then
        fail.option("%s: %s is an attack in norm %s, not in --norm %s", option, text, attack.norm or 2,
            o.norm)
    end
    local fewest = attack:ascends(false).min_classes
    if net.classes < fewest then
        fail.option("%s: %s needs %d classes, the net has %d", option, text, fewest, net.classes)
    end
    return attack
end

--- The eps values of a run above 0, in rising order, as {number, text}.
local function eps_of(o)
    local list = {}
    for _, text in ipairs(o.eps) do
        local eps = attacks.number(text)
        if eps > 0 then list[#list + 1] = {eps, text} end
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
    return list
end

--- The turns of a run with the options o, in order. With a net, they also have their attacks, and
-- losses that the options do not name.
function robustness.turns(o, net)
    local turns = {}
    local function add(part, chain, name, text, full, option, eps, of_loss)
        local attack = net and attack_at(o, net, option, full, eps[1])
        turns[#turns + 1] = {part = part, chain = chain, name = name, text = text, eps = eps[1],
            eps_text = eps[2], attack = attack, norm = o.norm,
            loss = of_loss or attack and attack:ascends(false).name}
    end
    for _, eps in ipairs(eps_of(o)) do
        for _, text in ipairs(o.attacks) do add("attacks", 1, text, text, text, "--attacks", eps) end
    end
    local chain = 1
    for _, one in ipairs(of_matrix) do
        for _, name in ipairs(o.matrix) do
            chain = chain + 1
            for _, eps in ipairs(eps_of(o)) do
                add(MATRIX, chain, MATRIX, one[1], one[2]:format(name), "--matrix", eps, name)
            end
        end
    end
    return turns
end

--- The names under which the run counts seconds: the attacks, and the matrix.
function robustness.names(o)
    local list = {}
    for i, text in ipairs(o.attacks) do list[i] = {name = text} end
    if #o.matrix > 0 then list[#list + 1] = {name = MATRIX} end
    return list
end

--- Whether a turn's result breaks its image. An attack without an eps looks for the nearest
-- adversarial image, which may be farther away than eps.
function robustness.breaks(turn, one)
    return one.success and (turn.norm == 2 and one.l2 or one.linf) <= turn.eps * (1 + 1e-12)
end

--- The packed record of an image's turn.
function robustness.pack(turn, item, one, broken)
    return core.pack {{"file", item.name}, {"label", item.label}, {"part", turn.part},
        {"attack", turn.text}, {"loss", turn.loss}, {"norm", tostring(turn.norm)}, {"eps", turn.eps},
        {"broken", broken}, {"prediction", one.prediction}, {"l2", one.l2}, {"linf", one.linf},
        {"forward", one.forward}, {"backward", one.backward}, {"unmoved", one.unmoved},
        {"not_finite", one.not_finite or ""}}
end

local function key_of(part, attack, name, eps)
    return ("%s %s %s %.17g"):format(part, attack, part == MATRIX and name or "", eps)
end

--- Counts the records: for each turn how many images it attacked, `tried`, and how many it broke,
-- `broken`. It verifies that each turn attacked exactly the images that the turn before did not
-- break, because a record may be missing.
--
-- For the matrix, each turn also gets `lost`: the files of the images that it broke.
local function count(out, turns, counts)
    local by_key, path = {}, out:file("records.msgpack")
    for _, turn in ipairs(turns) do
        turn.tried, turn.broken, turn.unmoved, turn.lost = 0, 0, 0, {}
        by_key[key_of(turn.part, turn.text, turn.loss, turn.eps)] = turn
    end
    for r in record.each(path) do
        local turn = by_key[key_of(tostring(r.part), tostring(r.attack), tostring(r.loss),
            tonumber(r.eps) or -1)]
        if not turn then fail("%s: holds a record of another run", path) end
        turn.loss, turn.tried = r.loss, turn.tried + 1
        if r.broken then turn.broken = turn.broken + 1 end
        if r.broken and turn.part == MATRIX then turn.lost[r.file] = true end
        if r.unmoved then turn.unmoved = turn.unmoved + 1 end
    end
    local right, names = {}, {}
    for _, turn in ipairs(turns) do names[turn.text] = names[turn.text] or turn.loss end
    for _, turn in ipairs(turns) do
        turn.loss = turn.loss or names[turn.text] or "" -- no image was attacked at any eps
        local wanted = right[turn.chain] or counts.attacked
        if turn.tried ~= wanted then
            fail("%s: holds %d records of %s at eps %s, %d images had that attack", path, turn.tried,
                turn.text, turn.eps_text, wanted)
        end
        right[turn.chain] = wanted - turn.broken
    end
end

--- A row of robustness.csv: of `right` images classified correctly before an attack, `broken` ones
-- are not after it.
local function row_of(o, eps, attack, name, right, broken, found)
    local low, high = tables.interval(right - broken, found)
    return {norm = tostring(o.norm), eps = eps, attack = attack, loss = name, right = right,
        broken = broken, robust_accuracy = (right - broken) / found, low = low, high = high}
end

--- The rows of robustness.csv: for each eps the attacks in their order, then all together.
local function rows_of(o, turns, counts)
    local rows, right, clean = {}, counts.attacked, counts.attacked
    for _, text in ipairs(o.eps) do
        if attacks.number(text) == 0 then
            rows[1] = row_of(o, 0, "all", "", clean, 0, counts.found)
        end
    end
    for i, turn in ipairs(turns) do
        if turn.chain == 1 then
            rows[#rows + 1] = row_of(o, turn.eps, turn.text, turn.loss, right, turn.broken, counts.found)
            right = right - turn.broken
            local following = turns[i + 1]
            if not following or following.chain ~= 1 or following.eps ~= turn.eps then
                rows[#rows + 1] = row_of(o, turn.eps, "all", "", clean, clean - right, counts.found)
            end
        end
    end
    return rows
end

--- The rows of matrix.csv, as a list and by attack, loss and eps.
local function matrix_of(turns, counts)
    local rows, right = {}, {}
    for _, turn in ipairs(turns) do
        if turn.part == MATRIX then
            right[turn.chain] = (right[turn.chain] or counts.attacked) - turn.broken
            rows[#rows + 1] = {attack = turn.text, loss = turn.loss, eps = turn.eps,
                robust_accuracy = right[turn.chain] / counts.found}
        end
    end
    return rows
end

-- The columns of paired.csv.
local paired_header = {"attack", "eps", "loss_a", "loss_b", "n", "right_a", "right_b", "only_a", "only_b",
    "p", "p_holm", "test"}

--- Compares one pair of losses under an attack at an eps, over n images classified correctly when
-- clean: on how many is the prediction right under only one of the losses? a, b: the files that
-- each loss breaks.
local function compare_pair(a, b, n)
    local lost_a, lost_b, both = 0, 0, 0
    for file in pairs(a) do
        lost_a = lost_a + 1
        both = both + (b[file] and 1 or 0)
    end
    for _ in pairs(b) do lost_b = lost_b + 1 end
    local only_a, only_b = lost_b - both, lost_a - both
    return {n = n, right_a = n - lost_a, right_b = n - lost_b, only_a = only_a, only_b = only_b,
        p = stats.sign_test(only_a, only_b), test = "sign_exact"}
end

--- The rows of paired.csv: the losses of the matrix in pairs, on the same images. p is adjusted
-- over the pairs of an attack and eps.
local function paired_rows(turns, counts)
    local chains, order, rows = {}, {}, {}
    for _, turn in ipairs(turns) do
        if turn.part == MATRIX then
            local lost = {} -- an image broken at one eps is broken at every larger one
            for _, files in ipairs {chains[turn.chain] or {}, turn.lost} do
                for file in pairs(files) do lost[file] = true end
            end
            chains[turn.chain] = lost
            local key = ("%s %.17g"):format(turn.text, turn.eps)
            if not order[key] then
                order[key] = {}
                order[#order + 1] = order[key]
            end
            table.insert(order[key], {attack = turn.text, eps = turn.eps, loss = turn.loss, lost = lost})
        end
    end
    for _, group in ipairs(order) do
        local first, ps = #rows + 1, {}
        for i = 1, #group do
            for k = i + 1, #group do
                local row = compare_pair(group[i].lost, group[k].lost, counts.attacked)
                row.attack, row.eps = group[i].attack, group[i].eps
                row.loss_a, row.loss_b = group[i].loss, group[k].loss
                rows[#rows + 1], ps[#ps + 1] = row, row.p
            end
        end
        for i, p in ipairs(stats.holm(ps)) do rows[first + i - 1].p_holm = p end
    end
    return rows
end

--- The pairs of losses as printed: those with a difference.
local function pairs_text(paired)
    if #paired == 0 then return "" end
    local lines = {}
    for _, row in ipairs(paired) do
        if row.p_holm < comparison.level then
            local a, b = row.loss_a, row.loss_b
            if row.right_a > row.right_b then a, b = b, a end
            lines[#lines + 1] = ("%s at eps %.5g: %s breaks more images than %s (p %s).\n"):format(row.attack,
                row.eps, a, b, comparison.p_text(row.p_holm))
        end
    end
    local more = #lines > MOST_LINES and ("The other %d pairs that differ are in paired.csv.\n"):format(
        #lines - MOST_LINES) or ""
    if #lines == 0 then lines[1] = "No two losses of the matrix differ significantly.\n" end
    return table.concat(lines, "", 1, math.min(#lines, MOST_LINES)) .. more
        .. "p: exact sign test on the same images, Holm-adjusted over the pairs.\n"
end

local function per_cent(v) return ("%.1f %%"):format(100 * v) end

--- The tables as printed: robust accuracy after each attack, by eps; and the matrix.
local function text_of(rows, matrix)
    local width, lines = 12, {}
    for _, row in ipairs(rows) do
        if #row.attack <= MOST_NAME then width = math.max(width, #row.attack) end
    end
    local form = "%-10s %-" .. width .. "s %9s %9s %17s  %s\n"
    lines[1] = form:format("eps", "attack", "right", "broken", "robust accuracy", "95 % interval")
    for _, row in ipairs(rows) do
        local name = #row.attack > MOST_NAME and "" or row.attack -- a longer name gets its own line
        if name == "" then lines[#lines + 1] = (" "):rep(11) .. row.attack .. "\n" end
        lines[#lines + 1] = form:format(("%.5g"):format(row.eps), name, row.right, row.broken,
            per_cent(row.robust_accuracy), ("%.1f to %.1f"):format(100 * row.low, 100 * row.high))
    end
    if #matrix > 0 then
        lines[#lines + 1] = ("\n%-10s %-12s %-12s %17s\n"):format("eps", "attack", "loss", "robust accuracy")
    end
    for _, row in ipairs(matrix) do
        lines[#lines + 1] = ("%-10s %-12s %-12s %17s\n"):format(("%.5g"):format(row.eps), row.attack,
            row.loss, per_cent(row.robust_accuracy))
    end
    return table.concat(lines)
end

--- The curves of a panel over eps, starting at the clean accuracy: {title, points {eps, fraction,
-- low, high}}.
local function curves_of(o, rows, clean)
    local first = {0, clean, clean, clean}
    local all, by_attack = {{title = "all attacks", wide = true, points = {first}}}, {}
    for _, text in ipairs(o.attacks) do
        local one = {title = "up to " .. text, points = {first}}
        all[#all + 1], by_attack[text] = one, one
    end
    by_attack.all = all[1]
    for _, row in ipairs(rows) do
        if row.eps > 0 then
            local points = by_attack[row.attack].points
            points[#points + 1] = {row.eps, row.robust_accuracy, row.low, row.high}
        end
    end
    return all
end

local function matrix_curves(matrix, clean)
    local all, by_title = {}, {}
    for _, row in ipairs(matrix) do
        local title = row.attack .. ", " .. row.loss
        local one = by_title[title]
        if not one then
            one = {title = title, loss = row.loss, plain = row.attack == "pgd", points = {{0, clean}}}
            all[#all + 1], by_title[title] = one, one
        end
        one.points[#one.points + 1] = {row.eps, row.robust_accuracy}
    end
    return all
end

--- The figure: robust accuracy over eps, after each attack and for each pair of the matrix. Each
-- panel has different titles, so it contains its own key.
local function figure(name, o, rows, matrix, clean, unit, form)
    local panels, blocks, names = {curves_of(o, rows, clean)}, {}, {}
    if #matrix > 0 then panels[2] = matrix_curves(matrix, clean) end
    for _, one in ipairs(panels[2] or {}) do names[#names + 1] = one.loss end
    local of_loss, of_attack = plot.styles(names), plot.styles(o.attacks)
    local drawn, most = {}, 0
    for _, row in ipairs(rows) do most = math.max(most, row.eps) end
    for p, curves in ipairs(panels) do
        local parts = {}
        for k, one in ipairs(curves) do
            local block = ("p%d_%d"):format(p, k)
            blocks[#blocks + 1] = plot.block(block, one.points)
            local style = one.wide and {colour = "#222222", dash = 1}
                or p == 1 and of_attack[o.attacks[k - 1]] or of_loss[one.loss]
            local form_of = "$%s using 1:2%s linewidth %g dashtype %d linecolor rgb '%s' title %s"
            parts[k] = form_of:format(block, one.wide and ":3:4 with yerrorlines pointtype 7 pointsize 0.3"
                    or " with linespoints pointtype 7 pointsize 0.25", one.wide and 1.8 or 1.2,
                p == 2 and (one.plain and 2 or 1) or style.dash, style.colour, plot.quote(one.title))
        end
        drawn[p] = {title = p == 1 and "Attacks, one after another" or "Losses, each alone",
            ylabel = "Robust accuracy", xlabel = ("eps (L%s, %s)"):format(o.norm == 2 and "₂" or "∞",
                unit),
            below = 18 + 10 * #curves, commands =
                ("set key at graph 0, graph %.4f left top vertical maxcols 1 "
                .. "Left reverse samplen 4 font 'sans,7' spacing 0.9\nplot "):format(-30 / HEIGHT)
                .. table.concat(parts, ", \\\n     ")}
    end
    return sheet.script(form, {name = name, title = "Robust accuracy", panels = drawn,
        columns = {page = 2, column = 1}, height = HEIGHT, blocks = table.concat(blocks),
        notes = {"fraction of all images"}, commands = ("set xrange [0:%.9g]\nset yrange [0:1.03]"):format(
            most > 0 and most * 1.04 or 1)})
end

--- Fills the run's folder `out` from its records.msgpack. run: the argument of results.write.
-- Returns a function that prints the results.
function robustness.write(out, run)
    local o, counts = run.about.options, run.counts
    if o.norm ~= 2 then o.norm = "inf" end
    local turns = robustness.turns(o)
    count(out, turns, counts)
    local rows, matrix = rows_of(o, turns, counts), matrix_of(turns, counts)
    latex.write(out, "robustness", tables.csv({"norm", "eps", "attack", "loss", "right", "broken",
        "robust_accuracy", "low", "high"}, rows))
    latex.write(out, "matrix", tables.csv({"attack", "loss", "eps", "robust_accuracy"}, matrix))
    local paired = paired_rows(turns, counts)
    latex.write(out, "paired", tables.csv(paired_header, paired))
    out:write("left_out.csv", results.left_out_csv(run.left))
    run_json.finish(run.about, counts, run.seconds)
    local drawn = not run.no_figures and counts.attacked > 0
    if drawn then
        out:write("fig_robust.gp", figure("fig_robust", o, rows, matrix, counts.attacked / counts.found,
            range.unit(run.about.picture ~= false), run.form or plot.form()))
        plot.draw(out.path, {"fig_robust"})
    end
    run_json.write(out, run.about)
    require("advrt.results.report.robust").write(out, {about = run.about, rows = rows, matrix = matrix,
        paired = paired, drawn = drawn})
    return function()
        print(results.images_text(counts) .. ", untargeted\n")
        print(text_of(rows, matrix))
        local of_pairs = pairs_text(paired)
        if of_pairs ~= "" then print(of_pairs) end
        local unmoved = 0
        for _, turn in ipairs(turns) do unmoved = unmoved + turn.unmoved end
        if unmoved > 0 then
            print(("%d times an attack did not move an image, because its gradients were 0; the image counts "
                .. "as right.\n"):format(unmoved))
        end
        print(("Tables%s: %s/"):format(drawn and " and the picture" or "", out.path))
        print(("Report: %s"):format(out:file("report.html")))
    end
end

return robustness
