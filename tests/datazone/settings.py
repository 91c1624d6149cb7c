"""What the settings decide: entities that there are, and how many points and tokens."""

from aws import DOMAIN, client, form, items, of, refused, same

datazone = client()
post = datazone.post_time_series_data_points
same(items(datazone, of("listed")), [])
for call, more in [
    (post, {"forms": [form(1)]}),
    (datazone.list_time_series_data_points, {"formName": "rules"}),
    (datazone.get_time_series_data_point, {"formName": "rules", "identifier": "x"}),
    (datazone.delete_time_series_data_points, {"formName": "rules"}),
]:
    refused("ResourceNotFoundException", 404, call, **of("unlisted"), **more)
    refused("ResourceNotFoundException", 404, call, **of("listed", "LISTING"), **more)
post(**of("listed"), forms=[form(1), form(2)], clientToken="one")
refused("ServiceQuotaExceededException", 402, post, **of("listed"), forms=[form(3), form(4)])
post(**of("listed"), forms=[form(3)], clientToken="two")
refused("ServiceQuotaExceededException", 402, post, **of("listed"), forms=[form(4)], clientToken="three")
# A repetition of what was taken is answered, whatever the quota.
same(len(post(**of("listed"), forms=[form(1), form(2)], clientToken="one")["forms"]), 2)
datazone.delete_time_series_data_points(**of("listed"), formName="none", clientToken="three")
message = refused("ThrottlingException", 429, post, **of("listed"), forms=[form(4)], clientToken="four")
assert "tokens_max" in message, message
same(len(items(datazone, of("listed"))), 3)
print("settings")
