--- CSV tables as LaTeX, for \input in a paper: a tabular in booktabs' style with the CSV's columns
-- and rows, rounded numbers and escaped texts.

local comparison = require "advrt.results.comparison"
local csv = require "advrt.support.csv"
local system = require "advrt.core.system"
local tables = require "advrt.results.tables"

local latex = {}

local DIGITS = 3 -- of the largest number of a quantity in a column

local escapes = {["\\"] = "\\textbackslash{}", ["{"] = "\\{", ["}"] = "\\}", ["$"] = "\\$", ["&"] = "\\&",
    ["#"] = "\\#", ["%"] = "\\%", ["_"] = "\\_", ["^"] = "\\textasciicircum{}", ["~"] = "\\textasciitilde{}",
    ["<"] = "\\textless{}", [">"] = "\\textgreater{}", ["|"] = "\\textbar{}", ['"'] = "\\char34{}"}

--- Text with LaTeX's special characters escaped.
function latex.escape(text)
    return (system.printable(text):gsub('[\\{}$&#%%_^~<>|"]', escapes):gsub("%-%-", "-{}-"))
end

--- A number with `decimals` digits after the point; in powers of ten if all of these would be 0.
local function number(v, decimals)
    if v ~= v then return "--" end
    if math.abs(v) == math.huge then return v > 0 and "$\\infty$" or "$-\\infty$" end
    local text
    if v ~= 0 and math.abs(v) < 10.0 ^ -decimals or math.abs(v) >= 1e6 then
        local digits, exponent = ("%.2e"):format(v):match("^(.-)e(.*)$")
        return ("$%s \\times 10^{%d}$"):format(digits, math.tointeger(tonumber(exponent)))
    end
    text = ("%.*f"):gsub("%*", decimals):format(v)
    return v < 0 and "$" .. text .. "$" or text
end

--- A column's fields as numbers; nil if one is a text or if there is none.
local function numbers_of(fields)
    local list = {}
    for i, field in ipairs(fields) do
        local v = field == "nan" and 0 / 0 or tonumber(field)
        if field == "inf" or field == "-inf" then v = field == "inf" and math.huge or -math.huge end
        if not v then return nil end
        list[i] = v
    end
    return #list > 0 and list or nil
end

--- The format of each number in a column: {whole, decimals}. whole: this number and all others of
-- its quantity are integers (nan and infinities do not count). decimals: digits after the point.
-- quantities: by row, or nil if there is only one.
local function forms_of(list, quantities)
    local forms, of_row = {}, {}
    for i, v in ipairs(list) do
        local key = quantities and quantities[i] or ""
        local form = forms[key] or {whole = true, most = 0}
        forms[key], of_row[i] = form, form
        if v == v and math.abs(v) < math.huge then
            form.whole = form.whole and math.type(v) == "integer"
            form.most = math.max(form.most, math.abs(v))
        end
    end
    for _, form in pairs(forms) do
        form.decimals = form.most > 0 and math.max(0, DIGITS - 1 - math.floor(math.log(form.most, 10))) or 0
    end
    return of_row
end

-- Columns with given, not measured, numbers: shown with up to four digits, but no more than were
-- given.
local given = {eps = true, strength = true}

-- Columns of p values, formatted as a run prints them.
local tested = {p = true, p_holm = true}

local titled = {loss = tables.title, loss_a = tables.title, loss_b = tables.title,
    setting = function(name) return (name:gsub("_", " ")) end}

--- One column of the table: its heading, its fields, and its letter for tabular (numbers are
-- right-aligned).
local function column_of(name, fields, quantities)
    local heading = latex.escape((name:gsub("_", " ")))
    local list = numbers_of(fields)
    local shown = {}
    if not list then
        for i, field in ipairs(fields) do
            shown[i] = latex.escape(titled[name] and titled[name](field) or field)
        end
        return heading, shown, "l"
    end
    local forms = forms_of(list, quantities)
    for i, v in ipairs(list) do
        if given[name] and v == v and math.abs(v) < math.huge then
            shown[i] = ("%.4g"):format(v):gsub("^(.*)e%+?(.-)0*(%d+)$", "$%1 \\times 10^{%2%3}$")
        elseif tested[name] and v == v then
            shown[i] = latex.escape(comparison.p_text(v))
        elseif forms[i].whole and math.type(v) == "integer" then
            shown[i] = v < 0 and ("$%d$"):format(v) or ("%d"):format(v)
        else
            shown[i] = number(v, math.min(forms[i].decimals, 6))
        end
    end
    return heading, shown, "r"
end

--- The tabular of a CSV text with a heading line.
function latex.table(text)
    local records = assert(csv.parse(text))
    local header, lines = table.remove(records, 1), {}
    local headings, columns, form, fields = {}, {}, {}, {}
    for k, name in ipairs(header) do
        fields[name] = {}
        for i, record in ipairs(records) do fields[name][i] = record[k] end
    end
    for k, name in ipairs(header) do
        headings[k], columns[k], form[k] = column_of(name, fields[name], fields.quantity)
    end
    for i in ipairs(records) do
        local cells = {}
        for k, column in ipairs(columns) do cells[k] = column[i] end
        -- LaTeX would take a bracket after a row's end as its argument.
        lines[i] = table.concat(cells, " & "):gsub("^%[", "{[}") .. " \\\\\n"
    end
    return ("%% \\usepackage{booktabs}\n\\begin{tabular}{%s}\n\\toprule\n%s \\\\\n\\midrule\n%s\\bottomrule\n"
        .. "\\end{tabular}\n"):format(table.concat(form), table.concat(headings, " & "), table.concat(lines))
end

--- Writes a table into the folder `out` (advrt.run.folder) as NAME.csv and NAME.tex.
function latex.write(out, name, text)
    out:write(name .. ".csv", text)
    out:write(name .. ".tex", latex.table(text))
end

return latex
