--- Fits weight files to nets: finds the dictionary with a net's state, the names that the file
-- uses, and the other contents. Nothing is guessed silently: notes, one line each, report what was
-- chosen, removed and ignored.

local core = require "advrt.core.weights"
local dist = require "advrt.core.dist"
local fail = require "advrt.support.fail"
local nearest = require "advrt.support.nearest"
local system = require "advrt.core.system"

local weights = {}

local WRAPPERS = 8 -- parts of a name that may precede the net's own
local SHOWN = 5    -- names in a message
local CLOSE = 1e-3 -- means and standard deviations that differ less are equal

-- Choosing ------------------------------------------------------------------

local usual = {state_dict = 1, model_state_dict = 2, model = 3, net = 4, network = 5, [""] = 6}

local averaging = {ema = true, swa = true, avg = true, average = true, averaged = true, shadow = true,
    teacher = true, target = true}

--- Whether a key refers to averaged weights.
local function is_averaged(key)
    for word in key:lower():gmatch("[^._]+") do
        if averaging[word] then return true end
    end
    return false
end

local function joined(...)
    local parts = {}
    for _, part in ipairs {...} do
        part = part:gsub("%.$", "")
        if part ~= "" then parts[#parts + 1] = part end
    end
    return table.concat(parts, ".")
end

local function quoted(key) return key == "" and "the top level" or ("'%s'"):format(key) end

--- A list of names for a message: the first few, and the number of the others.
local function some(names, most)
    most = most or SHOWN
    local text = table.concat(names, ", ", 1, math.min(#names, most))
    return #names > most and ("%s and %d more"):format(text, #names - most) or text
end

--- Iterates over the splits of a name after one of its first dots, and before its start; yields
-- both parts.
local function cuts(name)
    local from, count = 1, 0
    return function()
        if not from or count > WRAPPERS then return nil end
        local prefix, own = name:sub(1, from - 1), name:sub(from)
        local dot = name:find(".", from, true)
        from, count = dot and dot + 1, count + 1
        return prefix, own
    end
end

--- The prefixes of the net's names in a group: an array of {prefix =, found =}; found is the number
-- of the net's names after that prefix.
local function prefixes(names, wanted)
    local found, list = {}, {}
    for _, name in ipairs(names) do
        for prefix, own in cuts(name) do
            if wanted[own] then
                local entry = found[prefix]
                if not entry then
                    entry = {prefix = prefix, found = 0}
                    found[prefix], list[#list + 1] = entry, entry
                end
                entry.found = entry.found + 1
            end
        end
    end
    return list
end

--- All ways to read the net's names from the file: {group, place, prefix, found, full, label,
-- averaged, rank}. full: group and prefix together. label: the name in messages; the group alone
-- if none of its other prefixes has as many of the names.
local function candidates(groups, wanted)
    local list = {}
    for place, group in ipairs(groups) do
        local ways, most, alike = prefixes(group.names, wanted), 0, 0
        if #ways == 0 then ways[1] = {prefix = "", found = 0} end
        for _, way in ipairs(ways) do
            if way.found > most then most, alike = way.found, 0 end
            if way.found == most then alike = alike + 1 end
        end
        for _, way in ipairs(ways) do
            local full = joined(group.key, group.prefix, way.prefix)
            list[#list + 1] = {group = group, place = place, prefix = way.prefix, found = way.found,
                full = full, label = way.found == most and alike == 1 and group.key or full,
                averaged = is_averaged(full), rank = usual[group.key] or 7}
        end
    end
    return list
end

--- Whether candidate a is preferred to b: more of the net's names; then raw weights before averaged
-- ones; then usual keys; then the shorter prefix; then the order of the file.
local function before(a, b)
    if a.found ~= b.found then return a.found > b.found end
    if a.averaged ~= b.averaged then return b.averaged end
    if a.rank ~= b.rank then return a.rank < b.rank end
    if a.place ~= b.place then return a.place < b.place end
    if #a.prefix ~= #b.prefix then return #a.prefix < #b.prefix end
    return a.prefix < b.prefix
end

local function no_key(path, key, groups, list)
    local labels, seen = {}, {}
    for _, items in ipairs {groups, list} do
        for _, item in ipairs(items) do -- a group, or a way to read the net's names from one
            local label = item.full or item.key
            local near = not item.found or item.found * 2 >= list[1].found
            if near and label ~= "" and not seen[label] then
                seen[label], labels[#labels + 1] = true, label
            end
        end
    end
    return nil, ("%s: has no weights '%s'%s%s"):format(path, key,
        #labels > 0 and ", but " .. some(labels) or "", nearest.hint(key, labels))
end

--- The preferred candidate, and whether the key names only a part of a group. Outside that part
-- there may be other names.
local function choose(path, key, groups, wanted)
    local list = candidates(groups, wanted)
    table.sort(list, before)
    if not key then return list[1], false, list end
    for _, one in ipairs(list) do
        if one.group.key == key then return one, false, list end
    end
    for _, one in ipairs(list) do
        if one.found > 0 and (one.full == key or joined(one.group.key, one.prefix) == key
            or joined(one.prefix) == key) then
            return one, true, list
        end
    end
    return no_key(path, key, groups, list)
end

-- Loading -------------------------------------------------------------------

--- The dictionaries of a file, as listed by advrt.core.weights. For a file with only one
-- dictionary: that one and its tensors.
local function open(path)
    local groups, message = core.list(path)
    if not groups then return nil, message end
    if #groups > 0 then return groups end
    local state
    state, message = core.load(path)
    if not state then return nil, message end
    local names = {}
    for name in pairs(state) do names[#names + 1] = name end
    table.sort(names)
    return {{key = "", prefix = "", names = names, opaque = {}}}, state
end

--- The tensors of a file by name. key: the dictionary to read; default: 'state_dict',
-- 'model_state_dict' or 'model', else the one with most tensors. Returns them and {key = the one
-- read, notes = an array of lines}; or nil and a message.
function weights.load(path, key)
    local groups, state = open(path)
    if not groups then return nil, state end
    local best
    for _, group in ipairs(groups) do
        local rank = usual[group.key] or 7
        if rank > 3 then rank = 4 end
        if key then
            if group.key == key then best = group end
        elseif not best or rank < best.rank or rank == best.rank and #group.names > #best.names then
            best, group.rank = group, rank
        end
    end
    if not best then return no_key(path, key, groups, {}) end
    local others = {}
    for _, group in ipairs(groups) do
        if group ~= best and #group.names * 2 >= #best.names then others[#others + 1] = quoted(group.key) end
    end
    if type(state) ~= "table" then
        local message
        state, message = core.load(path, best.key)
        if not state then return nil, message end
    end
    local notes = {}
    if #others > 0 and not key then
        notes[1] = ("%s: used %s; the file also has %s. Choose with the option 'key'"):format(path,
            quoted(best.key), some(others))
    end
    return state, {key = best.key, notes = notes}
end

--- Prints the notes to standard error, one line each; with several processes, only rank 0 prints.
function weights.say(notes)
    for _, note in ipairs(dist.rank == 0 and notes or {}) do
        io.stderr:write("advrt: ", system.printable(note), "\n")
    end
end

--- Writes named tensors to a .safetensors or .msgpack file atomically. metadata: a table of texts,
-- or nil. Returns true, or nil and a message.
weights.save = core.save

-- Fitting -------------------------------------------------------------------

local function shape_text(shape) return "[" .. table.concat(shape, ",") .. "]" end

local normalising = {}
for _, start in ipairs {"", "new_", "image_", "pixel_", "norm_", "input_", "data_"} do
    normalising[start .. "mean"], normalising[start .. "std"] = "mean", "std"
end
normalising.mu, normalising.sigma = "mean", "std"

local whole = {i64 = true, i32 = true, i16 = true, i8 = true, u8 = true, bool = true}

--- Classifies a tensor that is not a parameter: "counts" for integers, such as a table of indices;
-- "mean" or "std" for a normalisation of C channels; nil for anything else.
local function spare(name, t, C)
    if whole[t:dtype()] then return "counts" end
    local kind = normalising[name:match("[^.]*$")]
    return kind and (t:numel() == 1 or t:numel() == C) and kind or nil
end

local function values_of(t) return t:to("f64"):reshape({t:numel()}):totable() end

local function numbers_text(values)
    local texts = {}
    for i, v in ipairs(values) do texts[i] = ("%.4g"):format(v) end
    return table.concat(texts, ",")
end

local function differ(file, own)
    for c = 1, math.max(#file, #own) do
        local a, b = file[#file == 1 and 1 or c], own[#own == 1 and 1 or c]
        if not a or not b or math.abs(a - b) > CLOSE then return true end
    end
    return false
end

--- The differences between a normalisation in the file and the definition's, as texts.
local function differences(kind, t, own)
    local values = values_of(t)
    local neutral = kind == "mean" and 0 or 1
    if not differ(values, own or {neutral}) then return nil end
    return ("its %s is %s, the definition's %s"):format(kind, numbers_text(values),
        own and numbers_text(own) or "is missing")
end

--- Splits the tensors of a candidate into those with the net's names, by these names (bare), and
-- the others.
local function split(state, prefix, part)
    local bare, rest = {}, {}
    for name, t in pairs(state) do
        if name:sub(1, #prefix) == prefix then
            bare[name:sub(#prefix + 1)] = t
        elseif not part then
            rest[name] = t
        end
    end
    return bare, rest
end

--- The prefixes, besides the chosen one, with equally many of the net's names: another choice, not
-- a mistake.
local function others_of(taken, list)
    local set = {}
    for _, one in ipairs(list) do
        if one ~= taken and one.group == taken.group and one.found == taken.found and one.found > 0 then
            set[one.prefix] = true
        end
    end
    return set
end

local function of_another(name, others, wanted)
    for prefix, own in cuts(name) do
        if others[prefix] and wanted[own] then return true end
    end
    return false
end

local function same_shape(a, b)
    if #a ~= #b then return false end
    for i = 1, #a do
        if a[i] ~= b[i] then return false end
    end
    return true
end

--- The unexpected name that probably belongs to a missing parameter, by its shape.
local function likely(p, unexpected, tensors)
    local alike = {}
    for _, name in ipairs(unexpected) do
        if #alike < 100 and #name < 200 and same_shape(tensors[name]:shape(), p.shape) then
            alike[#alike + 1] = name
        end
    end
    return #alike == 1 and alike[1] or nearest(p.name, alike)
end

local function misfit(o, taken, list, wrong, tensors)
    local parts = {}
    for _, kind in ipairs {"missing", "unexpected", "misshaped"} do
        if #wrong[kind] > 0 then
            parts[#parts + 1] = ("%d %s: %s"):format(#wrong[kind], kind, some(wrong[kind]))
        end
    end
    local first = wrong.first
    local by = first and taken.group.opaque[taken.prefix .. first.name]
    if by then
        parts[#parts + 1] = ("'%s' needs the function '%s', which advrt never runs; in PyTorch, save the "
            .. "weights by torch.save({\"state_dict\": model.state_dict()}, FILE)"):format(first.name, by)
    end
    if taken.prefix ~= "" and not first and #wrong.misshaped == 0 and wrong.inside == 0 then
        parts[#parts + 1] = ("--weights-key %s selects the weights of the net alone"):format(taken.full)
    end
    local near = first and not by and likely(first, wrong.unexpected, tensors)
    if near then
        parts[#parts + 1] = ("'%s' may be '%s' in the file; use the file's names in the definition")
            :format(first.name, near)
    end
    local labels, seen = {}, {[taken.group.key] = true}
    for _, one in ipairs(list) do
        if not seen[one.group.key] then
            seen[one.group.key], labels[#labels + 1] = true, quoted(one.group.key)
        end
    end
    if #labels > 0 then
        parts[#parts + 1] = ("the file also has %s; choose with --weights-key"):format(some(labels))
    end
    return nil, ("weights %s%s do not fit net %s: %s"):format(o.path,
        taken.label ~= "" and (" ('%s')"):format(taken.label) or "", o.name, table.concat(parts, "; "))
end

--- The notes about what was chosen and what was ignored.
local function notes_on(o, taken, list, passed)
    local notes, others, seen = {}, {}, {[taken.label] = true}
    for _, one in ipairs(list) do
        if one.found * 2 >= taken.found and not seen[one.label]
            and (one.group ~= taken.group or one.found == taken.found) then
            seen[one.label], others[#others + 1] = true, quoted(one.label)
        end
    end
    if #others > 0 and not o.key then
        notes[1] = ("used %s; the file also has %s. Choose with --weights-key"):format(quoted(taken.label),
            some(others))
    end
    local prefix = taken.group.prefix .. taken.prefix
    if prefix ~= "" then notes[#notes + 1] = ("removed '%s' from every name"):format(prefix) end
    if #passed.names > 0 then
        table.sort(passed.names)
        table.sort(passed.differences)
        notes[#notes + 1] = ("passed over %s%s"):format(some(passed.names),
            #passed.differences > 0 and "; " .. table.concat(passed.differences, "; ")
                .. " (--mean and --std set others)" or "")
    end
    for i, note in ipairs(notes) do notes[i] = ("%s: %s"):format(o.path, note) end
    return notes, #others > 0
end

--- Checks a tensor that is not a parameter: adds it to `passed` or to wrong.unexpected.
local function judge(o, name, t, wrong, passed)
    local kind = spare(name, t, o.channels)
    if not kind then
        wrong.unexpected[#wrong.unexpected + 1] = name
    elseif not name:find("num_batches_tracked$") then
        passed.names[#passed.names + 1] = name
        passed.differences[#passed.differences + 1] = kind ~= "counts" and differences(kind, t, o[kind])
            or nil
    end
end

--- The state of a net from a file.
--
--   o.path, o.key    the file, and which of its dictionaries, or nil
--   o.name           the net's, for messages
--   o.parameters     array of {name =, shape =}
--   o.skip           set of names to ignore
--   o.channels, o.mean, o.std  the input's channels, and the definition's normalisation or nil
--
-- Returns a table name -> tensor, and {key = the value for --weights-key, or nil; notes = array of
-- lines}; or nil and a message that names what does not fit.
function weights.fit(o)
    local groups, state = open(o.path)
    if not groups then return nil, state end
    local wanted = {}
    for _, p in ipairs(o.parameters) do wanted[p.name] = not o.skip[p.name] or nil end
    local taken, part, list = choose(o.path, o.key, groups, wanted)
    if not taken then return nil, part end
    if type(state) ~= "table" then
        local message
        state, message = core.load(o.path, taken.group.key)
        if not state then return nil, message end
    end
    local bare, rest = split(state, taken.prefix, part)
    local others = others_of(taken, list)
    local wrong = {missing = {}, unexpected = {}, misshaped = {}}
    local passed = {names = {}, differences = {}}
    for _, p in ipairs(o.parameters) do
        local t = bare[p.name]
        if wanted[p.name] and not t then
            wrong.missing[#wrong.missing + 1], wrong.first = p.name, wrong.first or p
        elseif wanted[p.name] and not same_shape(t:shape(), p.shape) then
            wrong.misshaped[#wrong.misshaped + 1] =
                ("%s (%s, wanted %s)"):format(p.name, shape_text(t:shape()), shape_text(p.shape))
        end
    end
    for name, t in pairs(bare) do
        if not wanted[name] and not o.skip[name] then judge(o, name, t, wrong, passed) end
    end
    wrong.inside = #wrong.unexpected
    for name, t in pairs(rest) do
        if not of_another(name, others, wanted) then judge(o, name, t, wrong, passed) end
    end
    table.sort(wrong.missing)
    table.sort(wrong.unexpected)
    table.sort(wrong.misshaped)
    if #wrong.missing + #wrong.unexpected + #wrong.misshaped > 0 then
        return misfit(o, taken, list, wrong, setmetatable(bare, {__index = rest}))
    end
    local notes, several = notes_on(o, taken, list, passed)
    local key = o.key or several and taken.label or taken.group.key
    return bare, {key = key ~= "" and key or nil, notes = notes}
end

-- Sums ----------------------------------------------------------------------

--- The SHA-256 of the weights in a file. For an index of several files: the SHA-256 of all their
-- sums. A file that cannot be read is a failure.
function weights.sha256(path)
    local sums = {}
    local files, message = core.files(path)
    if not files then fail("%s", message) end
    for i, file in ipairs(files) do
        local sum, problem = system.sha256(file)
        if not sum then fail("%s", problem) end
        sums[i] = sum
    end
    return #sums == 1 and sums[1] or system.digest(table.concat(sums, "\n"))
end

return weights
