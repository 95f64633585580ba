-- Degraded means that a person has to act (Stalled). An objective that is missed is no fault of the resource: the
-- condition ObjectiveMet tells of it.
local health = {status = "Progressing", message = "Waiting for the operator to report"}

if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for the operator to see the change of the spec"
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

local function holds(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

if holds("Stalled") then
  health.status = "Degraded"
  health.message = conditions.Stalled.message
elseif holds("Reconciling") then
  health.message = conditions.Reconciling.message
elseif obj.metadata.annotations ~= nil and obj.metadata.annotations["endpointsync.io/pause"] == "true" then
  health.status = "Suspended"
  health.message = "Paused by the annotation endpointsync.io/pause"
elseif holds("Ready") then
  health.status = "Healthy"
  health.message = conditions.Ready.message
elseif conditions.Ready ~= nil then
  health.message = conditions.Ready.message
end
return health
